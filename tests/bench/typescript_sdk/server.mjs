// The MCP TypeScript SDK's own authorization server in front of an identity provider, at its fastest:
// no rate limits, and clients kept in memory instead of forwarding each registration to the identity provider.
import express from 'express';
import { ProxyOAuthServerProvider } from '@modelcontextprotocol/sdk/server/auth/providers/proxyProvider.js';
import { mcpAuthRouter } from '@modelcontextprotocol/sdk/server/auth/router.js';

const [port, identityProvider] = process.argv.slice(2);
const clients = new Map();
const clientsStore = {
  getClient: async id => clients.get(id),
  registerClient: async client => {
    clients.set(client.client_id, client);
    return client;
  }
};

class InMemoryClients extends ProxyOAuthServerProvider {
  get clientsStore() {
    return clientsStore;
  }
}

const provider = new InMemoryClients({
  endpoints: {
    authorizationUrl: `${identityProvider}/authorize`,
    tokenUrl: `${identityProvider}/token`
  },
  getClient: clientsStore.getClient,
  verifyAccessToken: async () => {
    throw new Error('the benchmark protects no resource');
  }
});

const unlimited = { rateLimit: false };
express()
  .use(
    mcpAuthRouter({
      provider,
      issuerUrl: new URL(`http://127.0.0.1:${port}`),
      authorizationOptions: unlimited,
      tokenOptions: unlimited,
      clientRegistrationOptions: unlimited
    })
  )
  .listen(Number(port), '127.0.0.1');
