// panva's oidc-provider, strict and certified, with one confidential client. Logins are its development interactions, which
// take any name and password. Its only argument is JSON.
import Provider, { errors } from 'oidc-provider';

const { port, client, resource, scope } = JSON.parse(process.argv[2]);

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      ...client,
      // A native application may come back on any port of loopback (RFC 8252 section 7.3).
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ],
  pkce: { required: () => true },
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  features: {
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_ctx, indicator) {
        if (indicator !== resource) throw new errors.InvalidTarget();
        return { audience: resource, scope, accessTokenFormat: 'jwt' };
      },
      useGrantedResource: () => true,
    },
  },
});
provider.listen(port, '127.0.0.1');
