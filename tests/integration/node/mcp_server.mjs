// A resource server of the TypeScript SDK, which checks JWTs with jose. Its only argument is JSON.
import { createServer } from 'node:http';
import express from 'express';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';

const { port, issuer, jwks_uri, resource } = JSON.parse(process.argv[2]);

// By default it is fetched every ten minutes, and not twice in half a minute: longer than a test lasts.
const keys = createRemoteJWKSet(new URL(jwks_uri), { cacheMaxAge: 0, cooldownDuration: 0 });

const verifier = {
  async verifyAccessToken(token) {
    let claims;
    try {
      ({ payload: claims } = await jwtVerify(token, keys, { issuer, audience: resource, typ: 'at+jwt' }));
    } catch (error) {
      throw new InvalidTokenError(error.code);
    }
    const scopes = (claims.scope ?? '').split(' ');
    return { token, clientId: claims.client_id, scopes, expiresAt: claims.exp, resource: new URL(claims.aud) };
  },
};

const app = express();
app.all('/mcp', requireBearerAuth({ verifier, expectedResource: resource }), (request, response) => {
  response.json(request.auth);
});
createServer(app).listen(port, '127.0.0.1');
