// Sends an echo and files by dcmjs-dimse, as its README says; prints one JSON line: what was answered to each.
// node send.js HOST PORT CALLED CALLING [--tls KEY CERTIFICATE AUTHORITY] FILE...
"use strict";

const fs = require("fs");
const { Client, log } = require("dcmjs-dimse");
const { CEchoRequest, CStoreRequest } = require("dcmjs-dimse").requests;

log.level = "error";
const [host, port, called, calling, ...rest] = process.argv.slice(2);
const options = {};
if (rest[0] === "--tls") {
  const [, key, certificate, authority] = rest.splice(0, 4);
  options.securityOptions = {
    key: fs.readFileSync(key),
    cert: fs.readFileSync(certificate),
    ca: fs.readFileSync(authority),
  };
}

const said = { echoes: [], stores: [], problems: [] };
const client = new Client();
const ask = (request, answers) => {
  request.on("response", (response) => answers.push(response.getStatus()));
  client.addRequest(request);
};
ask(new CEchoRequest(), said.echoes);
for (const file of rest) {
  ask(new CStoreRequest(file), said.stores);
}
client.on("networkError", (error) => said.problems.push(String(error)));
client.on("associationRejected", (reason) => said.problems.push("rejected " + JSON.stringify(reason)));
client.on("closed", () => {
  console.log(JSON.stringify(said));
});
client.send(host, Number(port), calling, called, options);
