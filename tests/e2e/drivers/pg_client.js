// pg_client.js - node-postgres, told what to do over stdin and stdout (harness/drivers.py)
//
// One line a request, words separated by blanks, each percent-encoded: OPERATION SLOT ARGUMENT...  The answer is one line: "ok"
// and words, or "error", the SQLSTATE and the text.  A row is one word, its columns separated by U+001F; U+0000 is NULL.
'use strict';

const dns = require('dns');
const fs = require('fs');
const readline = require('readline');
const { Client } = require('pg');

function optional(name) {
    try {
        return require(name);
    } catch (e) {
        return null;
    }
}

const copyStreams = optional('pg-copy-streams');
const Cursor = optional('pg-cursor');
const slots = new Map();

// Names below our suffix are this machine, as a wildcard of DNS would say.
const lookup = dns.lookup;
dns.lookup = (host, options, done) => {
    const callback = done || options;
    if (!/\.(localhost|example)$/.test(host)) {
        return lookup(host, options, done);
    }
    return options.all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4);
};

function wanted(words) {
    const given = Object.fromEntries(words.map((w) => [w.slice(0, w.indexOf('=')), w.slice(w.indexOf('=') + 1)]));
    const config = { host: given.host, port: Number(given.port), user: given.user, password: given.password, database: given.database };
    for (const name of ['options', 'replication']) {
        if (name in given) {
            config[name] = given[name];
        }
    }
    if (given.tls === 'verify-full') {
        config.ssl = { ca: fs.readFileSync(given.ca, 'utf8') };
    } else if (given.tls === 'require') {
        config.ssl = { rejectUnauthorized: false };
    }
    config.enableChannelBinding = given.binding === 'require';
    return config;
}

async function open(slot, words) {
    const config = wanted(words);
    const client = new Client(config);
    const heard = [];
    client.on('error', () => {});
    client.on('notification', (n) => heard.push(`${n.channel}=${n.payload}`));
    let bound = false;
    if (config.enableChannelBinding) {
        client.connection.on('authenticationSASL', (m) => { bound = m.mechanisms.includes('SCRAM-SHA-256-PLUS'); });
    }
    await client.connect();
    if (config.enableChannelBinding && !bound) {
        throw new Error('no channel binding was offered');
    }
    slots.set(slot, { client, config, heard });
    return [];
}

function rows(result) {
    const last = Array.isArray(result) ? result[result.length - 1] : result;
    return last.rows.map((row) => row.map((v) => (v === null ? '\0' : String(v))).join('\x1f'));
}

function query(client, text, values, name) {
    return client.query({ text, values, name, rowMode: 'array' });
}

async function named(client, sql, n) {
    const found = [];
    for (let i = 1; i <= n; i++) {
        found.push(...rows(await query(client, sql, [String(i)], 'of the test')));
    }
    return found;
}

async function batch(client, sql, n) {
    const all = [];
    for (let i = 1; i <= n; i++) {
        all.push(query(client, sql, [String(i)]));
    }
    return [String((await Promise.all(all)).reduce((sum, r) => sum + r.rowCount, 0))];
}

async function walk(client, sql, size) {
    const cursor = client.query(new Cursor(sql, [], { rowMode: 'array' }));
    let count = 0, last = '';
    for (let some = await cursor.read(size); some.length > 0; some = await cursor.read(size)) {
        count += some.length;
        last = String(some[some.length - 1][0]);
    }
    await cursor.close();
    return [String(count), last];
}

function copyIn(client, sql, data) {
    return new Promise((resolve, reject) => {
        const stream = client.query(copyStreams.from(sql));
        stream.on('error', reject);
        stream.on('finish', () => resolve([]));
        stream.end(data);
    });
}

function copyOut(client, sql) {
    return new Promise((resolve, reject) => {
        const stream = client.query(copyStreams.to(sql));
        const chunks = [];
        stream.on('error', reject);
        stream.on('data', (chunk) => chunks.push(chunk));
        stream.on('end', () => resolve([Buffer.concat(chunks).toString()]));
    });
}

async function cancelled({ client, config }, sql) {
    const running = client.query(sql).then(() => '', (e) => e.code);
    setTimeout(() => new Client({ ...config, ssl: false }).cancel(client, client._activeQuery || client.activeQuery), 300);
    return [await running];
}

async function heard(slot, ms) {
    for (const end = Date.now() + ms; slot.heard.length === 0 && Date.now() < end;) {
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return slot.heard.splice(0);
}

async function obey(what, slot, args) {
    const s = slots.get(slot);
    switch (what) {
    case 'has': return [copyStreams ? 'copy' : '-', Cursor ? 'walk' : '-'];
    case 'open': return open(slot, args);
    case 'simple': return rows(await query(s.client, args[0]));
    case 'ask': return rows(await query(s.client, args[0], args.slice(1)));
    case 'named': return named(s.client, args[0], Number(args[1]));
    case 'batch': return batch(s.client, args[0], Number(args[1]));
    case 'walk': return walk(s.client, args[0], Number(args[1]));
    case 'copyin': return copyIn(s.client, args[0], args[1]);
    case 'copyout': return copyOut(s.client, args[0]);
    case 'cancelled': return cancelled(s, args[0]);
    case 'heard': return heard(s, Number(args[0]));
    case 'close': slots.delete(slot); await s.client.end(); return [];
    default: throw new Error(what);
    }
}

(async () => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [what, slot, ...args] = line.split(' ').map(decodeURIComponent);
        try {
            console.log(['ok', ...(await obey(what, slot, args)).map(encodeURIComponent)].join(' '));
        } catch (e) {
            console.log(['error', e.code || '-', encodeURIComponent(String(e.message))].join(' '));
        }
    }
})();
