'use strict';
// What there is: a table for each resource, of which its data source, its schema, its plans and its requests are made.
//
//   keys         its address, in the order in which an import names them; the data source asks for these
//   path         where it is
//   object       the member of an answer that shows it
//   read         what an answer does not show: more of its attributes, or none
//   attributes   kind   key       given, and for life
//                       given     what the user may say; the server's `view=spec` tells it back
//                       default   the same, where the server chooses when the user does not
//                       shown     the server's alone
//                type   of Terraform; `time` is a string that may be written in several ways
//                replace: another value is another object, unless it is the id that `id` names of the same thing
//                follows: it may change when that attribute does

const e = encodeURIComponent;
const branchPath = (s) => `/projects/${e(s.project)}/branches/${e(s.branch)}`;

const key = (description) => ({ kind: 'key', type: 'string', description, replace: true });
const given = (type, description, more) => ({ kind: 'given', type, description, ...more });
const byDefault = (type, description, more) => ({ kind: 'default', type, description, ...more });
const shown = (type, description, more) => ({ kind: 'shown', type, description, ...more });
const FOR_LIFE = { replace: true };
const SECRET = { sensitive: true };

// null where the server cannot say: no such thing, several to choose from, a password it does not know.
async function ifKnown(asked) {
  try {
    return await asked;
  } catch (error) {
    if ([400, 404, 412, 422].includes(error.status)) return null;
    throw error;
  }
}

async function connection(api, project, query) {
  const got = await ifKnown(api.call('GET', `/projects/${e(project)}/connection_uri?${new URLSearchParams(query)}`));
  return got?.uri ?? null;
}

// Other roles and databases may have come meanwhile: it stays that of the role and the database that it was of.
async function branchMore(api, before, object) {
  const url = before.connection_uri ? new URL(before.connection_uri) : null;
  const same = url && { database_name: decodeURIComponent(url.pathname.slice(1)), role_name: decodeURIComponent(url.username) };
  const { endpoints } = await api.call('GET', `/projects/${e(before.project)}/branches/${e(object.id)}/endpoints`);
  const endpoint = endpoints.find((x) => x.type === 'read_write');
  return {
    endpoint_id: endpoint?.id,
    host: endpoint?.host,
    connection_uri: endpoint && await connection(api, before.project, { branch_id: object.id, ...same }),
  };
}

// The answer that makes a role has its password; where the server does not keep it, the state does.
async function roleMore(api, before, object, answer) {
  if (object.authentication_method === 'no_login') return { no_login: true };
  const made = answer?.role?.password;
  const told = made ? null : await ifKnown(api.call('GET', `${branchPath(before)}/roles/${e(before.name)}/reveal_password`));
  return { no_login: false, password: made ?? told?.password ?? before.password };
}

const RESOURCES = {
  mere_project: {
    description: 'A project, with its default branch, a role and a database.',
    keys: ['id'],
    path: (s) => `/projects/${e(s.id)}`,
    collection: '/projects',
    object: 'project',
    attributes: {
      id: shown('string', 'Chosen by the server.'),
      name: byDefault('string', 'The id when left out.'),
      pg_version: byDefault('number', 'Major version of Postgres; the newest installed one when left out.', FOR_LIFE),
      history_retention_seconds: byDefault('number', 'How far back its branches can go.'),
      store_passwords: byDefault('bool', 'Whether passwords can be shown later.', FOR_LIFE),
      created_at: shown('string', 'When it was made.'),
    },
  },
  mere_branch: {
    description: 'A branch, with an endpoint that writes.',
    keys: ['project', 'name'],
    path: (s) => `/projects/${e(s.project)}/branches/${e(s.name)}`,
    object: 'branch',
    read: branchMore,
    attributes: {
      project: key('Id of the project.'),
      name: key('What it is called: a-z, 0-9, ".", "_" and "-".'),
      parent: given('string', 'Id or name; the default branch when left out.', { replace: true, id: 'parent_id' }),
      parent_lsn: given('string', 'As of this place of the parent.', FOR_LIFE),
      parent_timestamp: given('time', 'As of this time of the parent.', FOR_LIFE),
      init_source: given('string', 'parent-data or schema-only.', FOR_LIFE),
      durability: given('string', 'full or relaxed.', FOR_LIFE),
      ttl_seconds: given('number', 'It goes so long after this was first given.'),
      expires_at: given('time', 'It goes then.'),
      labels: given(['map', 'string'], 'What it can be found by.'),
      protected: given('bool', 'It is not deleted while this is true.'),
      id: shown('string', 'Another one whenever the branch is made anew: what stands on it names it by this.'),
      parent_id: shown('string', 'Id of the branch it was made of.'),
      endpoint_id: shown('string', 'The endpoint that writes.'),
      host: shown('string', 'Where that is reached.'),
      connection_uri: shown('string', 'For the role and the database it was made with.', SECRET),
    },
  },
  mere_endpoint: {
    description: 'An endpoint: a reader of a branch, or the writer of one that has none.',
    keys: ['project', 'name'],
    path: (s) => `/projects/${e(s.project)}/endpoints/${e(s.name)}`,
    object: 'endpoint',
    attributes: {
      project: key('Id of the project.'),
      name: key('What it is called.'),
      branch: given('string', 'Id or name of its branch.', { required: true, replace: true, id: 'branch_id' }),
      type: given('string', 'read_write (when left out) or read_only.', FOR_LIFE),
      autoscaling_limit_min_cu: given('number', 'In compute units.'),
      autoscaling_limit_max_cu: given('number', 'In compute units.'),
      suspend_timeout_seconds: given('number', '0 is the default, -1 is never.'),
      disabled: given('bool', 'It is not woken.'),
      park_sessions: given('bool', 'Sessions that wait outlive a suspend.'),
      id: shown('string', 'Chosen by the server.'),
      branch_id: shown('string', 'Id of its branch.'),
      host: shown('string', 'Where it is reached.'),
      pooler_host: shown('string', 'Where it is reached through the pooler.'),
    },
  },
  mere_role: {
    description: 'A role of a branch.',
    keys: ['project', 'branch', 'name'],
    path: (s) => `${branchPath(s)}/roles/${e(s.name)}`,
    object: 'role',
    read: roleMore,
    attributes: {
      project: key('Id of the project.'),
      branch: key('Id or name of the branch.'),
      name: key('What it is called.'),
      no_login: byDefault('bool', 'It only owns and groups.', FOR_LIFE),
      password: shown('string', 'null where it was set by SQL, and for a role that does not log in.', SECRET),
    },
  },
  mere_database: {
    description: 'A database of a branch.',
    keys: ['project', 'branch', 'name'],
    path: (s) => `${branchPath(s)}/databases/${e(s.name)}`,
    object: 'database',
    read: async (api, before, object) => ({
      connection_uri: await connection(api, before.project, { branch_id: before.branch, database_name: object.name, role_name: object.owner_name }),
    }),
    attributes: {
      project: key('Id of the project.'),
      branch: key('Id or name of the branch.'),
      name: key('What it is called.'),
      owner_name: byDefault('string', 'A role of the branch; the only one there is when left out.'),
      connection_uri: shown('string', 'For its owner; null where the branch has no endpoint that writes.', { sensitive: true, follows: 'owner_name' }),
    },
  },
};

module.exports = { RESOURCES };
