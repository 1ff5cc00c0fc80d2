// Goes through the calls of @neondatabase/api-client, once each; says at the end what it made, for the test to look up on the server.
import assert from 'node:assert/strict';
import apic from '@neondatabase/api-client';

const api = apic.createApiClient({ apiKey: process.env.NEON_API_KEY, baseURL: process.env.NEON_API_HOST });
const ended = new Set(['finished', 'skipped', 'failed', 'cancelled', 'error']);

async function wait(answer) {
    for (const o of answer.data.operations ?? []) {
        let operation = o;
        while (!ended.has(operation.status))
            operation = (await api.getProjectOperation(o.project_id, o.id)).data.operation;
        assert.ok(['finished', 'skipped'].includes(operation.status), JSON.stringify(operation));
    }
    return answer.data;
}

async function refused(status, promise) {
    await assert.rejects(promise, (e) => {
        assert.equal(e.response.status, status);
        assert.ok(e.response.data.message.length > 0 && 'code' in e.response.data);
        return true;
    });
}

const me = (await api.getCurrentUserInfo()).data;
assert.ok(me.id && me.login);
const orgs = (await api.getCurrentUserOrganizations()).data.organizations;
assert.equal((await api.getOrganization(orgs[0].id)).data.id, orgs[0].id);
assert.equal((await api.getAuthDetails()).data.account_id, me.id);
assert.ok((await api.getActiveRegions()).data.regions.some((r) => r.default));
const key = (await api.createApiKey({ key_name: 'of-the-client' })).data;
assert.ok((await api.listApiKeys()).data.some((k) => k.id === key.id));
assert.equal((await api.revokeApiKey(key.id)).data.revoked, true);

const made = await wait(await api.createProject({ project: { name: 'client', default_endpoint_settings: { autoscaling_limit_min_cu: 0.25, autoscaling_limit_max_cu: 0.5 } } }));
const project = made.project.id;
const role = made.roles[0].name;
assert.equal((await api.getProject(project)).data.project.name, 'client');
assert.ok((await api.listProjects({ limit: 100 })).data.projects.some((p) => p.id === project));
assert.deepEqual((await api.listSharedProjects({ limit: 100 })).data.projects, []);
await wait(await api.updateProject(project, { project: { name: 'client 2', settings: { allowed_ips: { ips: ['127.0.0.0/8'], protected_branches_only: false } } } }));

// A POST without arguments sends no body.
const nothing = await wait(await api.createProjectBranch(project));
assert.ok(nothing.branch.id && nothing.endpoints.length === 0);
await wait(await api.deleteProjectBranch({ projectId: project, branchId: nothing.branch.id }));
const dev = await wait(await api.createProjectBranch(project, {
    branch: { name: 'test/dev', parent_id: made.branch.id, expires_at: new Date(Date.now() + 864e5).toISOString() },
    endpoints: [{ type: 'read_write', suspend_timeout_seconds: 0 }],
    annotation_value: { by: 'client' },
}));
const branch = dev.branch.id;
assert.equal(dev.branch.parent_id, made.branch.id);
assert.ok(dev.connection_uris[0].connection_uri.startsWith('postgresql://'));
await refused(409, api.createProjectBranch(project, { branch: { name: 'test/dev' } }));
const listed = (await api.listProjectBranches({ projectId: project, search: 'test/dev' })).data;
assert.equal(listed.annotations[branch].value.by, 'client');
assert.equal((await api.countProjectBranches({ projectId: project })).data.count, 2);
assert.equal((await api.getProjectBranch(project, branch)).data.annotation.value.by, 'client');
await wait(await api.updateProjectBranch(project, branch, { branch: { name: 'dev', expires_at: null } }));
assert.equal((await api.getProjectBranch(project, branch)).data.branch.expires_at, undefined);

const endpoint = dev.endpoints[0].id;
assert.equal((await api.listProjectEndpoints(project)).data.endpoints.length, 2);
assert.equal((await api.listProjectBranchEndpoints(project, branch)).data.endpoints[0].id, endpoint);
await wait(await api.updateProjectEndpoint(project, endpoint, { endpoint: { autoscaling_limit_min_cu: 1, autoscaling_limit_max_cu: 2 } }));
assert.equal((await api.getProjectEndpoint(project, endpoint)).data.endpoint.autoscaling_limit_max_cu, 2);
for (const verb of ['startProjectEndpoint', 'restartProjectEndpoint', 'suspendProjectEndpoint'])
    await wait(await api[verb](project, endpoint));
assert.equal((await api.getProjectEndpoint(project, endpoint)).data.endpoint.current_state, 'idle');
const reader = await wait(await api.createProjectEndpoint(project, { endpoint: { branch_id: branch, type: 'read_only', name: 'reader' } }));
await wait(await api.deleteProjectEndpoint(project, reader.endpoint.id));

const ana = await wait(await api.createProjectBranchRole(project, branch, { role: { name: 'ana' } }));
assert.ok(ana.role.password);
assert.ok((await api.listProjectBranchRoles(project, branch)).data.roles.some((r) => r.name === 'ana'));
assert.equal((await api.getProjectBranchRole(project, branch, 'ana')).data.role.name, 'ana');
const reset = await wait(await api.resetProjectBranchRolePassword(project, branch, 'ana'));
assert.notEqual(reset.role.password, ana.role.password);
assert.equal((await api.getProjectBranchRolePassword(project, branch, 'ana')).data.password, reset.role.password);
await wait(await api.createProjectBranchRole(project, branch, { role: { name: 'bob' } }));
await wait(await api.deleteProjectBranchRole(project, branch, 'bob'));
await wait(await api.createProjectBranchDatabase(project, branch, { database: { name: 'shop', owner_name: role } }));
assert.ok((await api.listProjectBranchDatabases(project, branch)).data.databases.some((d) => d.name === 'shop'));
assert.equal((await api.getProjectBranchDatabase(project, branch, 'shop')).data.database.owner_name, role);
await wait(await api.updateProjectBranchDatabase(project, branch, 'shop', { database: { owner_name: 'ana' } }));
await wait(await api.createProjectBranchDatabase(project, branch, { database: { name: 'gone', owner_name: role } }));
await wait(await api.deleteProjectBranchDatabase(project, branch, 'gone'));

assert.match((await api.getProjectBranchSchema({ projectId: project, branchId: branch, db_name: 'shop' })).data.sql, /PostgreSQL database dump/);
assert.equal((await api.getProjectBranchSchemaComparison({ projectId: project, branchId: branch, base_branch_id: made.branch.id, db_name: 'neondb' })).data.diff, '');
const uri = (await api.getConnectionUri({ projectId: project, branch_id: branch, database_name: 'shop', role_name: 'ana' })).data.uri;
const pooled = process.argv[2] === 'pooled' ? (await api.getConnectionUri({ projectId: project, branch_id: branch, database_name: 'shop', role_name: 'ana', pooled: true })).data.uri : null;

await wait(await api.restoreProjectBranch(project, branch, { source_branch_id: branch, source_timestamp: new Date().toISOString(), preserve_under_name: 'before' }));
const restored = (await api.getProjectBranch(project, branch)).data.branch;
const backup = (await api.listProjectBranches({ projectId: project, search: 'before' })).data.branches[0];
assert.equal(restored.parent_id, backup.id);
await wait(await api.setDefaultProjectBranch(project, branch));

const permission = (await api.grantPermissionToProject(project, { email: 'ana@example.com' })).data;
assert.equal((await api.listProjectPermissions(project)).data.project_permissions[0].granted_to_email, 'ana@example.com');
assert.ok((await api.revokePermissionFromProject(project, permission.id)).data.revoked_at);
assert.ok(Array.isArray((await api.getAvailablePreloadLibraries(project)).data.libraries));
const today = new Date().toISOString();
const used = (await api.getConsumptionHistoryPerProject({ from: today, to: today, granularity: 'daily', project_ids: [project, 'no-other-12345678'] })).data;
assert.equal(used.projects[0].project_id, project);
assert.ok((await api.listProjectOperations({ projectId: project })).data.operations.length > 10);
await refused(404, api.getProject('no-such-12345678'));

const second = await wait(await api.createProject({ project: { name: 'gone' } }));
await api.deleteProject(second.project.id);
await refused(404, api.getProject(second.project.id));
console.log(JSON.stringify({ project, branch, backup: backup.id, main: made.branch.id, endpoint, role, ana: reset.role.password, uri, pooled, gone: second.project.id }));
