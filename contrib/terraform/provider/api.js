'use strict';
// Mere's API: one call, which is tried again where the server says when, and one that waits for what a call has begun.

const TRIES = 8;
const RETRY_MAX_S = 30;

class ApiError extends Error {
  constructor(method, path, status, answer) {
    super(`${method} ${path}: HTTP ${status}: ${answer?.message ?? 'no message'}`);
    this.status = status;
    this.fields = (answer?.errors ?? []).map((e) => e.pointer).filter(Boolean);
  }
}

class Api {
  constructor(url, key) {
    this.url = url.replace(/\/+$/, '');
    this.key = key;
  }

  // The answer of a success.  A request that was refused with Retry-After has changed nothing, so that it may be sent again; one that got no
  // answer at all may have been heard, and is not.
  async call(method, path, body, headers = {}) {
    for (let n = 1; ; n++) {
      let reply;
      try {
        reply = await fetch(this.url + '/api/v2' + path, {
          method,
          headers: { authorization: 'Bearer ' + this.key, ...(body && { 'content-type': 'application/json' }), ...headers },
          body: body && JSON.stringify(body),
        });
      } catch (e) {
        throw new Error(`${method} ${this.url}${path}: ${e.cause?.message || e.message}`);
      }
      const text = await reply.text();
      const retry = Number(reply.headers.get('retry-after'));
      if ([429, 503].includes(reply.status) && retry > 0 && n < TRIES) {
        await new Promise((resolve) => setTimeout(resolve, Math.min(retry, RETRY_MAX_S) * 1000));
        continue;
      }
      if (!reply.ok) throw new ApiError(method, path, reply.status, parsed(text));
      return parsed(text);
    }
  }

  // null when it is not there.
  async find(path) {
    return this.call('GET', path).catch((e) => {
      if (e.status === 404) return null;
      throw e;
    });
  }

  // The operations of an answer have ended, and ended well.
  async settled(project, answer) {
    for (let o of answer?.operations ?? []) {
      while (['scheduling', 'running'].includes(o.status)) {
        const got = await this.find(`/projects/${encodeURIComponent(project)}/operations/${o.id}?wait=true`);
        if (!got) break;
        o = got.operation;
      }
      if (['failed', 'cancelled'].includes(o.status)) throw new Error(`${o.action} has failed: ${o.error ?? 'see the log of the server'}`);
    }
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

module.exports = { Api };
