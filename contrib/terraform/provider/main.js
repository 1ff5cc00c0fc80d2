'use strict';
// The process that Terraform starts: it says on standard output where it listens and by which certificate it is known, and serves until it
// is told to shut down or Terraform is gone.
const path = require('path');
const grpc = require('@grpc/grpc-js');
const protobuf = require('protobufjs');
const certificate = require('./certificate');
const provider = require('./provider');

const CORE = 1, PROTOCOL = 6;
const PARENT_MS = 1000;
const asIs = (bytes) => bytes;

function method(name, requestType, replyType) {
  return {
    path: name,
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    responseDeserialize: asIs,
    requestDeserialize: (bytes) => requestType.decode(bytes),
    responseSerialize: (reply) => Buffer.from(replyType.encode(replyType.fromObject(reply)).finish()),
  };
}

function addProvider(server, root) {
  const methods = {}, calls = {};
  for (const rpc of root.lookupService('tfplugin6.Provider').methodsArray) {
    rpc.resolve();
    methods[rpc.name] = method(`/tfplugin6.Provider/${rpc.name}`, rpc.resolvedRequestType, rpc.resolvedResponseType);
    calls[rpc.name] = (call, done) => provider.answer(rpc.name, call.request).then((reply) => done(null, reply), done);
  }
  server.addService(methods, calls);
}

function addController(server, root) {
  const nothing = root.lookupType('tfplugin6.Nothing');
  server.addService({ Shutdown: method('/plugin.GRPCController/Shutdown', nothing, nothing) }, {
    Shutdown: (call, done) => {
      done(null, {});
      server.tryShutdown(() => process.exit(0));
    },
  });
}

// Terraform that was killed tells nobody.
function endWithParent() {
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || process.exit(0), PARENT_MS).unref();
}

function main() {
  if (!process.env.TF_PLUGIN_MAGIC_COOKIE) {
    process.stderr.write('This is a provider: Terraform starts it, by itself it does nothing. See the README beside it.\n');
    process.exit(1);
  }
  process.on('SIGINT', () => {}); // it goes to the whole terminal; Terraform lets what has begun end
  endWithParent();
  const root = new protobuf.Root().loadSync(path.join(__dirname, 'wire.proto'), { keepCase: true });
  const server = new grpc.Server();
  addProvider(server, root);
  addController(server, root);
  const client = process.env.PLUGIN_CLIENT_CERT;
  const own = client && certificate.make();
  const credentials = client ? grpc.ServerCredentials.createSsl(Buffer.from(client), [{ private_key: own.key, cert_chain: own.pem }], true)
    : grpc.ServerCredentials.createInsecure();
  server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
    if (error) throw error;
    const known = own ? own.der.toString('base64').replace(/=+$/, '') : '';
    process.stdout.write(`${CORE}|${PROTOCOL}|tcp|127.0.0.1:${port}|grpc|${known}\n`);
  });
}

main();
