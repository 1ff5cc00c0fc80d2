'use strict';
// What Terraform asks of a provider, answered from the tables of resources.js.  Nothing is kept between two calls but the client.
const msgpack = require('@msgpack/msgpack');
const { Api } = require('./api');
const { RESOURCES } = require('./resources');

const ERROR = 1;
const UNKNOWN = new msgpack.ExtData(0, new Uint8Array(1)); // "known after apply"
const WAIT = '?wait=ready&timeout=60';

const PROVIDER = {
  api_url: { type: 'string', optional: true, description: 'Where mered listens; MERE_API_URL or http://127.0.0.1:7432 when left out.' },
  api_key: { type: 'string', optional: true, sensitive: true, description: 'A key of the API; MERE_API_KEY when left out.' },
};

let api = null;

// --- values

function decode(value) {
  if (value?.msgpack?.length) return msgpack.decode(value.msgpack);
  return value?.json?.length ? JSON.parse(Buffer.from(value.json).toString()) : null;
}

function encode(object) {
  return { msgpack: Buffer.from(msgpack.encode(object)) };
}

function isUnknown(value) {
  return value instanceof msgpack.ExtData;
}

// An object with each attribute of the table and no other.
function shaped(table, pick) {
  return Object.fromEntries(Object.entries(table.attributes).map(([name, attribute]) => [name, pick(name, attribute) ?? null]));
}

function isSame({ type }, a, b) {
  if (isUnknown(a) || isUnknown(b)) return false;
  if (type === 'time') return a === b || (a && b && Date.parse(a) === Date.parse(b));
  if (Array.isArray(type)) {
    const [x, y] = [a ?? {}, b ?? {}];
    return Object.keys(x).length === Object.keys(y).length && Object.entries(x).every(([k, v]) => y[k] === v);
  }
  return (a ?? null) === (b ?? null);
}

// --- schemas

function attributeSchema([name, { type, description, required, optional, computed, sensitive }]) {
  return { name, type: Buffer.from(JSON.stringify(type === 'time' ? 'string' : type)), description, required, optional, computed, sensitive };
}

function block(description, attributes) {
  return { block: { description, attributes: Object.entries(attributes).map(attributeSchema) } };
}

// What of an attribute the user may, must or cannot say.
function flags({ kind, required }) {
  return { required: kind === 'key' || required, optional: !required && ['given', 'default'].includes(kind), computed: ['default', 'shown'].includes(kind) };
}

function resourceSchema(table) {
  return block(table.description, shaped(table, (_, attribute) => ({ ...attribute, ...flags(attribute) })));
}

// A data source is told where to look and tells the rest.
function dataSchema(table) {
  return block(table.description, shaped(table, (name, attribute) => ({ ...attribute, ...flags({ kind: table.keys.includes(name) ? 'key' : 'shown' }) })));
}

function each(make) {
  return Object.fromEntries(Object.entries(RESOURCES).map(([name, table]) => [name, make(table)]));
}

// --- the server

function server() {
  if (!api) throw new Error('The provider does not know yet where the server is: api_url or api_key depend on something that is still to be made.');
  return api;
}

// What is there, in the shape of the table; null when it is gone.  before: its keys at least.
// What the user may say is told as it was said, so that what nobody has said is null; a data source tells how it is.
async function look(table, before, { answer, asItIs = false } = {}) {
  const got = await server().find(table.path(before));
  const spec = got && !table.collection ? await server().find(table.path(before) + '?view=spec') : {};
  if (!got || !spec) return null;
  const object = got[table.object];
  const more = { labels: got.annotation?.value, ...await table.read?.(server(), before, object, answer) };
  return shaped(table, (name, { kind }) => {
    if (table.keys.includes(name)) return before[name];
    const is = more[name] ?? object[name];
    if (asItIs) return is ?? spec[name];
    return kind === 'given' ? spec[name] : is;
  });
}

// What the user says, as the body of a request.
function said(table, state) {
  return Object.fromEntries(Object.entries(state).filter(([name, value]) =>
    ['given', 'default'].includes(table.attributes[name].kind) && value !== null && !isUnknown(value)));
}

// PUT, which makes and changes.  It does not take over what is there already: that is for an import.
async function put(table, had, want) {
  try {
    return await server().call('PUT', table.path(want) + WAIT, said(table, want), had ? {} : { 'if-none-match': '*' });
  } catch (error) {
    if (error.status !== 412) throw error;
    const id = table.keys.map((k) => encodeURIComponent(want[k])).join('/');
    throw new Error(`There is a ${table.object} ${want.name} already, and nothing was done to it. `
      + `Give this one another name, or import it: its id is ${id}.`);
  }
}

// Of what has no PUT only what differs is sent.
async function postOrPatch(table, had, want) {
  if (!had) return server().call('POST', table.collection + WAIT, { [table.object]: said(table, want) });
  const changed = Object.fromEntries(Object.entries(said(table, want)).filter(([name, value]) => !isSame(table.attributes[name], had[name], value)));
  return server().call('PATCH', table.path(had) + WAIT, { [table.object]: changed });
}

async function remove(table, had) {
  const path = table.path(had) + (table.collection ? '' : WAIT);
  const answer = await server().call('DELETE', path).catch((error) => {
    if (error.status !== 404) throw error;
  });
  await server().settled(had.project ?? had.id, answer);
}

// --- calls

function diagnostics(error, table) {
  const name = error.fields?.map((pointer) => pointer.split('/').pop()).find((field) => table && field in table.attributes);
  return [{ severity: ERROR, summary: error.message, ...(name && { attribute: { steps: [{ attribute_name: name }] } }) }];
}

function configure({ config }) {
  const { api_url: url, api_key: key } = decode(config);
  api = null;
  if (isUnknown(url) || isUnknown(key)) return {};
  const secret = key || process.env.MERE_API_KEY;
  if (!secret) throw new Error('No key of the API is known: set MERE_API_KEY, or api_key in the provider block.');
  api = new Api(url || process.env.MERE_API_URL || 'http://127.0.0.1:7432', secret);
  return {};
}

async function read({ current_state: current }, table) {
  const before = decode(current);
  const now = await look(table, before);
  return { new_state: encode(now && shaped(table, (name, attribute) => isSame(attribute, before[name], now[name]) ? before[name] : now[name])) };
}

function plan({ prior_state: prior, proposed_new_state: proposed, config }, table) {
  const [had, want, wrote] = [prior, proposed, config].map(decode);
  if (!want) return { planned_state: encode(null) };
  const differs = (name) => !isSame(table.attributes[name], had[name], want[name]);
  const isMoved = ([name, { replace, id }]) => replace && differs(name) && !(id && want[name] === had[id]);
  const moved = had ? Object.entries(table.attributes).filter(isMoved).map(([name]) => name) : [];
  const isNew = !had || moved.length > 0;
  const planned = shaped(table, (name, { kind, follows }) => {
    const chosen = kind === 'shown' || (kind === 'default' && wrote[name] === null);
    return chosen && (isNew || (follows && differs(follows))) ? UNKNOWN : want[name];
  });
  return { planned_state: encode(planned), requires_replace: moved.map((name) => ({ steps: [{ attribute_name: name }] })) };
}

// Whatever goes wrong, the state says what is there as far as it is known: what was made is not forgotten.
async function apply({ prior_state: prior, planned_state: planned }, table) {
  const [had, want] = [decode(prior), decode(planned)];
  let kept = had;
  try {
    if (!want) {
      await remove(table, had);
      return { new_state: encode(null) };
    }
    const answer = await (table.collection ? postOrPatch : put)(table, had, want);
    const made = { ...want, ...(table.collection && { id: answer[table.object].id }) };
    kept = had ?? shaped(table, (name) => isUnknown(made[name]) ? null : made[name]);
    await server().settled(kept.project ?? kept.id, answer);
    const now = await look(table, kept, { answer });
    if (!now) throw new Error(`The ${table.object} ${want.name} was deleted by somebody else while it was made.`);
    return { new_state: encode(shaped(table, (name) => isUnknown(want[name]) ? now[name] : want[name])) };
  } catch (error) {
    return { new_state: encode(kept), diagnostics: diagnostics(error, table) };
  }
}

function importState({ type_name: type, id }, table) {
  const parts = id.split('/').map(decodeURIComponent);
  if (parts.length !== table.keys.length || parts.includes('')) {
    throw new Error(`An id to import is ${table.keys.map((k) => k.toUpperCase()).join('/')} here, a "/" in a name being %2F; "${id}" is not.`);
  }
  // The read that follows fills in the rest, or finds that there is none.
  return { imported_resources: [{ type_name: type, state: encode(shaped(table, (name) => parts[table.keys.indexOf(name)])) }] };
}

async function readData({ config }, table) {
  const asked = decode(config);
  const now = await look(table, asked, { asItIs: true });
  if (!now) throw new Error(`There is no ${table.object} ${table.keys.map((k) => asked[k]).join('/')}.`);
  return { state: encode(now) };
}

const CALLS = {
  GetProviderSchema: () => ({
    provider: block('Mere: Postgres with branches.', PROVIDER),
    resource_schemas: each(resourceSchema),
    data_source_schemas: each(dataSchema),
  }),
  ConfigureProvider: configure,
  UpgradeResourceState: ({ raw_state: raw }) => ({ upgraded_state: { json: raw.json } }),
  ReadResource: read,
  PlanResourceChange: plan,
  ApplyResourceChange: apply,
  ImportResourceState: importState,
  ReadDataSource: readData,
};

// One call.  What is not in the table has nothing to say: the server checks what a configuration says, and what runs is let end.
async function answer(name, request) {
  const table = RESOURCES[request.type_name];
  try {
    return (await CALLS[name]?.(request, table)) ?? {};
  } catch (error) {
    return { diagnostics: diagnostics(error, table) };
  }
}

module.exports = { answer };
