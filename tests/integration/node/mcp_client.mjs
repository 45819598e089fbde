// An MCP client of the TypeScript SDK, which says and does what ../mcp_client.py does.
import { createServer } from 'node:http';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [address, documentedAt, tool, grants = 'authorization_code refresh_token'] = process.argv.slice(2);
const serverUrl = new URL(address);
const say = (event) => console.log(JSON.stringify(event));

// The loopback listener that the browser comes back to.
const queries = [];
const waiting = [];
const query = () => new Promise((resolve) => (queries.length ? resolve(queries.shift()) : waiting.push(resolve)));
const listener = createServer((request, response) => {
  response.end('OK');
  const parameters = new URL(request.url, serverUrl).searchParams;
  waiting.length ? waiting.shift()(parameters) : queries.push(parameters);
});
await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
const redirectUrl = `http://127.0.0.1:${listener.address().port}/callback`;

const state = crypto.randomUUID();
const kept = { tokens: [] };
const provider = {
  redirectUrl,
  clientMetadataUrl: documentedAt || undefined, // where there is one, it does not register
  clientMetadata: {
    client_name: 'TypeScript SDK',
    redirect_uris: [redirectUrl],
    grant_types: grants.split(' '),
    token_endpoint_auth_method: 'none',
  },
  state: () => state,
  clientInformation: () => kept.client,
  saveClientInformation: (client) => (kept.client = client),
  tokens: () => kept.tokens.at(-1),
  saveTokens: (tokens) => kept.tokens.push(tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => (kept.verifier = verifier),
  redirectToAuthorization: (url) => say({ authorize: url.href }),
};

const finish = async (transport) => {
  const parameters = await query();
  if (parameters.get('state') !== state) throw new Error('not the state that was sent');
  await transport.finishAuth(parameters.get('code'));
};

const connect = async () => {
  const client = new Client({ name: 'typescript-sdk', version: '1' });
  const transport = new StreamableHTTPClientTransport(serverUrl, { authProvider: provider });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await finish(transport);
    return connect();
  }
  return client;
};

const client = await connect();
const names = async () => (await client.listTools()).tools.map((tool) => tool.name);
const call = async () => {
  try {
    await client.callTool({ name: tool, arguments: {} });
    return 'ok';
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) return error.message;
    await finish(client.transport);
    return call();
  }
};
if (tool) {
  const listed = [await names()];
  const calls = [await call(), await call()];
  say({ listed: [...listed, await names()], calls, tokens: kept.tokens.length });
  process.exit();
}
const add = async (a, b) => {
  const result = await client.callTool({ name: 'add', arguments: { a, b } });
  return result.structuredContent.result;
};
const first = await add(1, 2);
kept.tokens.at(-1).access_token = 'run out'; // the SDK refreshes when it is refused with 401
const second = await add(3, 4);
say({ sums: [first, second], tokens: kept.tokens.length });
await client.close();
listener.close();
