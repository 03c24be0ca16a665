// The hub's own API: JSON in and out, described by the OpenAPI document that it serves.
import { HubError } from "../../errors";
import { audit } from "./audit";
import { collection } from "./collection";
import { identities } from "./identities";
import { jobWork } from "./job-work";
import { jobs } from "./jobs";
import { merges } from "./merges";
import { models } from "./models";
import { revisions } from "./revisions";
import { boundedBody, newRouter } from "./router";
import { storage } from "./storage";
import { usage } from "./usage";

export const v1 = newRouter();

v1.use(...boundedBody);
v1.route("/", identities);
v1.route("/", jobs);
v1.route("/", jobWork);
v1.route("/", merges);
v1.route("/", models);
v1.route("/", revisions);
v1.route("/", audit);
v1.route("/", storage);
v1.route("/", collection);
v1.route("/", usage);

/** What the document says of the API as a whole. */
export const document = {
  openapi: "3.1.0",
  info: {
    title: "OWM Hub",
    version: "1",
    description:
      "Jobs, evaluations, lineage, usage, identities, the audit trail and the storage of the hub. Repositories and files are reached by the Hugging Face Hub protocol. " +
      "Authenticate with `Authorization: Bearer hf_…`.",
    license: { name: "Apache-2.0", identifier: "Apache-2.0" },
  },
  servers: [{ url: "/api/v1" }],
};

v1.doc31("/openapi.json", document);

v1.all("*", () => {
  throw new HubError("not_found");
});
