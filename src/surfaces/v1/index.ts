// The hub's own API: JSON in and out, described by the OpenAPI document that it serves.
import { HubError } from "../../errors";
import { audit } from "./audit";
import { identities } from "./identities";
import { boundedBody, newRouter } from "./router";

export const v1 = newRouter();

v1.use(...boundedBody);
v1.route("/", identities);
v1.route("/", audit);

v1.all("*", () => {
  throw new HubError("not_found");
});
