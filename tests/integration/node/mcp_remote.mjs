// mcp-remote, the bridge that gives local MCP clients a remote server, with such a client before it. Says and does what
// ../mcp_client.py does.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const here = import.meta.dirname;
const say = (event) => console.log(JSON.stringify(event));

const bridge = new StdioClientTransport({
  command: process.execPath,
  args: [join(here, 'node_modules', 'mcp-remote', 'dist', 'proxy.js'), process.argv[2], '--host', '127.0.0.1'],
  // Without a PATH it finds no browser, and so it prints where somebody has to go.
  env: { MCP_REMOTE_CONFIG_DIR: here, PATH: '' },
  stderr: 'pipe',
});
createInterface(bridge.stderr).on('line', (line) => {
  console.error(line);
  if (URL.parse(line)?.searchParams.has('code_challenge')) say({ authorize: line });
});

const client = new Client({ name: 'mcp-remote', version: '1' });
await client.connect(bridge, { timeout: 60_000 });
const add = async (a, b) => {
  const result = await client.callTool({ name: 'add', arguments: { a, b } });
  return result.structuredContent.result;
};

// Where the bridge keeps its tokens.
const kept = () => join(here, readdirSync(here, { recursive: true }).find((name) => name.endsWith('_tokens.json')));
const tokens = () => JSON.parse(readFileSync(kept()));

const first = await add(1, 2);
const given = tokens();
writeFileSync(kept(), JSON.stringify({ ...given, access_token: 'run out' })); // it refreshes when it is refused with 401
const second = await add(3, 4);
const refreshed = tokens().refresh_token !== given.refresh_token;
say({ sums: [first, second], tokens: refreshed ? 2 : 1 });
await client.close();
