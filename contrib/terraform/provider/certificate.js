'use strict';
// A certificate for `localhost` and its key, made anew at every start and never on a disk: Terraform is told of it in the handshake and
// trusts no other.  X.509 is written out here because Node can read certificates but not make them.
const crypto = require('crypto');

const DAY_MS = 24 * 3600 * 1000;
const BOOLEAN_TRUE = Buffer.from([0x01, 0x01, 0xff]);
const INTEGER = 0x02, BITS = 0x03, OCTETS = 0x04, OID = 0x06, UTF8 = 0x0c, UTC_TIME = 0x17, SEQUENCE = 0x30, SET = 0x31;
const VERSION = 0xa0, EXTENSIONS = 0xa3, DNS_NAME = 0x82; // by their places
const ECDSA_WITH_SHA256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], COMMON_NAME = [0x55, 0x04, 0x03], ALT_NAME = [0x55, 0x1d, 0x11],
  BASIC_CONSTRAINTS = [0x55, 0x1d, 0x13];

function der(tag, ...parts) {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const length = body.length < 0x80 ? [body.length] : body.length < 0x100 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

function utcTime(ms) {
  return der(UTC_TIME, new Date(ms).toISOString().replace(/^..|[-:T]|\.\d+/g, ''));
}

function make() {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const serial = crypto.randomBytes(16);
  serial[0] = (serial[0] & 0x7f) | 0x40; // positive, and without a leading zero
  const name = der(SEQUENCE, der(SET, der(SEQUENCE, der(OID, COMMON_NAME), der(UTF8, 'localhost'))));
  const algorithm = der(SEQUENCE, der(OID, ECDSA_WITH_SHA256));
  const now = Date.now();
  const extensions = der(SEQUENCE,
    der(SEQUENCE, der(OID, BASIC_CONSTRAINTS), BOOLEAN_TRUE, der(OCTETS, der(SEQUENCE, BOOLEAN_TRUE))),
    der(SEQUENCE, der(OID, ALT_NAME), der(OCTETS, der(SEQUENCE, der(DNS_NAME, 'localhost')))));
  const said = der(SEQUENCE, der(VERSION, der(INTEGER, [2])), der(INTEGER, serial), algorithm, name,
    der(SEQUENCE, utcTime(now - DAY_MS), utcTime(now + 30 * DAY_MS)), name, publicKey.export({ type: 'spki', format: 'der' }),
    der(EXTENSIONS, extensions));
  const whole = der(SEQUENCE, said, algorithm, der(BITS, [0], crypto.sign('sha256', said, privateKey)));
  const pem = `-----BEGIN CERTIFICATE-----\n${whole.toString('base64').match(/.{1,64}/g).join('\n')}\n-----END CERTIFICATE-----\n`;
  return { der: whole, pem: Buffer.from(pem), key: Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' })) };
}

module.exports = { make };
