// The requests of create-branch-action, in its order and with its time limit: create_branch.mjs PROJECT NAME [PARENT [EXPIRES_AT]]
import assert from 'node:assert/strict';
import apic from '@neondatabase/api-client';

const [project, name, parent, expires_at] = process.argv.slice(2);
const api = apic.createApiClient({ apiKey: process.env.NEON_API_KEY, baseURL: process.env.NEON_API_HOST, timeout: 10000 });
const is = (b) => b.name === name || b.id === name;

let branch = (await api.listProjectBranches({ projectId: project, search: name, limit: 10000 })).data.branches.find(is);
const created = !branch;
if (created)
    branch = (await api.createProjectBranch(project, {
        endpoints: [{ type: 'read_write', suspend_timeout_seconds: 0 }],
        branch: { name, parent_id: parent || undefined, init_source: 'parent-data', expires_at: expires_at || undefined },
        annotation_value: { 'created-by': 'an action' },
    })).data.branch;
const endpoint = (await api.listProjectBranchEndpoints(project, branch.id)).data.endpoints.find((e) => e.type === 'read_write');
assert.ok(endpoint.host.startsWith(endpoint.id));
const database = (await api.getProjectBranchDatabase(project, branch.id, 'neondb')).data.database;
const role = (await api.getProjectBranchRole(project, branch.id, 'neondb_owner')).data.role;
const { password } = (await api.getProjectBranchRolePassword(project, branch.id, role.name)).data;
const absent = [];
for (const path of [`branches/${branch.id}/auth`, `branches/${branch.id}/data-api/${database.name}`])
    await assert.rejects(api.request({ path: `/projects/${project}/${path}`, method: 'GET', secure: true }), (e) => absent.push(e.response.status) > 0);
assert.deepEqual(absent, [404, 404]);
const uri = (host) => `postgresql://${role.name}:${encodeURIComponent(password)}@${host}/${database.name}?sslmode=require`;
console.log(JSON.stringify({ created, branch: branch.id, uri: uri(endpoint.host), pooled: uri(endpoint.host.replace(endpoint.id, `${endpoint.id}-pooler`)) }));
