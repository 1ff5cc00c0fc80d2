// Goes through the calls of @neon/sdk: its client, and the generated layer below it; says at the end what it made.
import assert from 'node:assert/strict';
import { createNeonClient, raw } from '@neon/sdk';

const key = { apiKey: process.env.NEON_API_KEY, baseUrl: process.env.NEON_API_HOST };
const neon = createNeonClient({ ...key, throwOnError: true, waitForReadiness: true, wait: { pollIntervalMs: 20, timeoutMs: 60000 } });
const pooled = process.argv[2] === 'pooled';

const { project, connectionString } = await neon.projects.createAndConnect({ name: 'sdk', pooled: true });
const projectId = project.id;
assert.equal((await neon.projects.get({ projectId })).name, 'sdk');
assert.equal((await neon.projects.update({ projectId, name: 'sdk 2' })).name, 'sdk 2');

// More than a page: the client asks until there is no cursor, or nothing behind it.
const others = [];
for (let i = 0; i < 3; i++)
    others.push((await neon.projects.create({ name: `other ${i}` })).id);
const seen = (await neon.projects.list({ limit: 2 }).all()).map((p) => p.id);
assert.equal(new Set(seen).size, seen.length);
for (const id of [projectId, ...others])
    assert.ok(seen.includes(id));
let walked = 0;
for await (const p of neon.projects.list({ limit: 1 }))
    walked += p.id.length > 0;
assert.equal(walked, seen.length);

const main = await neon.branches.getDefault({ projectId });
const dev = await neon.branches.createAndConnect({ projectId, name: 'dev', pooled: false });
const branchId = dev.branch.id;
assert.equal((await neon.branches.get({ projectId, branchId })).parent_id, main.id);
assert.equal((await neon.branches.list({ projectId }).all()).length, 2);
assert.equal((await neon.branches.update({ projectId, branchId, name: 'dev 2' })).name, 'dev 2');
const [endpoint] = await neon.postgres.endpoints.listByBranch({ projectId, branchId });
const endpointId = endpoint.id;
assert.equal((await neon.postgres.endpoints.list({ projectId })).length, 2);
assert.equal((await neon.postgres.endpoints.update({ projectId, endpointId, suspend_timeout_seconds: 600 })).suspend_timeout_seconds, 600);
await neon.postgres.endpoints.start({ projectId, endpointId });
assert.equal((await neon.postgres.endpoints.get({ projectId, endpointId })).current_state, 'active');
await neon.postgres.endpoints.restart({ projectId, endpointId });
await neon.postgres.endpoints.suspend({ projectId, endpointId });
const reader = await neon.postgres.endpoints.create({ projectId, branch_id: branchId, type: 'read_only' });
await neon.postgres.endpoints.delete({ projectId, endpointId: reader.id });

const at = { projectId, branchId };
const ana = await neon.postgres.roles.create({ ...at, name: 'ana' });
assert.equal((await neon.postgres.roles.get({ ...at, roleName: 'ana' })).name, 'ana');
const again = await neon.postgres.roles.resetPassword({ ...at, roleName: 'ana' });
assert.notEqual(again.password, ana.password);
assert.equal(await neon.postgres.roles.password({ ...at, roleName: 'ana' }), again.password);
await neon.postgres.databases.create({ ...at, name: 'shop', owner_name: 'ana' });
assert.equal((await neon.postgres.databases.get({ ...at, databaseName: 'shop' })).owner_name, 'ana');
await neon.postgres.databases.update({ ...at, databaseName: 'shop', name: 'store' });
await neon.postgres.databases.create({ ...at, name: 'gone', owner_name: 'ana' });
await neon.postgres.databases.delete({ ...at, databaseName: 'gone' });
await neon.postgres.roles.create({ ...at, name: 'bob' });
await neon.postgres.roles.delete({ ...at, roleName: 'bob' });
assert.deepEqual((await neon.postgres.databases.list(at)).map((d) => d.name).sort(), ['neondb', 'store']);
assert.ok((await neon.postgres.roles.list(at)).some((r) => r.name === 'ana'));
const uri = await neon.postgres.connectionString({ ...at, databaseName: 'store', roleName: 'ana', pooled });
const guessed = pooled ? await neon.postgres.connectionString({ projectId }) : null;

assert.equal((await neon.branches.compareSchema({ projectId, branchId, baseBranchId: main.id, databaseName: 'neondb' })).diff, '');
await neon.branches.resetFromParent({ projectId, branchId });
assert.ok((await neon.branches.get({ projectId, branchId })).last_reset_at);
await neon.branches.setDefault({ projectId, branchId });
const temporary = await neon.branches.create({ projectId, name: 'temporary' });
await neon.branches.delete({ projectId, branchId: temporary.id });
const operations = await neon.operations.list({ projectId }).all();
assert.equal((await neon.operations.get({ projectId, operationId: operations[0].id })).id, operations[0].id);

// Errors are values.
const quiet = createNeonClient({ ...key, retries: 0 });
const missing = await quiet.branches.get({ projectId, branchId: 'br-no-such-branch' });
assert.equal(missing.error.kind, 'not_found');
assert.equal(missing.error.status, 404);
assert.ok(missing.error.message.includes('branch not found') && missing.error.requestId);
const refused = await quiet.branches.create({ projectId, name: 'dev 2' });
assert.equal(refused.error.status, 409);
const stranger = createNeonClient({ ...key, apiKey: 'wrong' });
assert.equal((await stranger.projects.get({ projectId })).error.kind, 'auth');

// The generated layer, for what the other one has no names for.
const client = raw.createClient(raw.createConfig({ baseUrl: key.baseUrl, auth: () => key.apiKey }));
assert.equal((await raw.getProject({ client, path: { project_id: projectId } })).data.project.id, projectId);
const [back] = others;
await neon.projects.delete({ projectId: back });
assert.equal((await quiet.projects.get({ projectId: back })).error.kind, 'not_found');
assert.equal((await neon.projects.recover({ projectId: back })).id, back);
for (const id of others)
    await neon.projects.delete({ projectId: id });
console.log(JSON.stringify({ projectId, branchId, main: main.id, connectionString, dev: dev.connectionString, uri, guessed, others }));
