// The page on which a person lets a program in: the code that the program shows, and a token of one's own, since pages have no sign-in.
import * as z from "zod";
import { identify } from "../../access/tokens";
import { HubError } from "../../errors";
import { decideDeviceLogin } from "../../hub/device-login";
import { readAll } from "../../streams/chunks";
import { type Ctx, callerOf } from "../hf/request";
import { answer } from "./layout";

const MAX_BODY_BYTES = 16 * 1024;
const SCOPES = ["read", "write", "admin"] as const;
const WHAT: Record<(typeof SCOPES)[number], string> = {
  read: "read: what you may read",
  write: "write: also change what you may change",
  admin: "admin: also make tokens and organizations",
};

const Form = z.object({
  code: z.string().max(50),
  token: z.string().trim().min(1).max(200),
  name: z.string().trim().min(1).max(100),
  scope: z.enum(SCOPES),
  decision: z.enum(["approve", "deny"]),
});

function page(c: Ctx, code: string, problem?: string) {
  return answer(c, {
    status: problem === undefined ? 200 : 403,
    title: "Let a program in · OWM Hub",
    children: (
      <>
        <h1>Let a program in</h1>
        <p class="lead">
          A program that you have just started shows a code, and waits. With your approval it gets a token of its own,
          which you can revoke alone.
        </p>
        <p>
          Do this only for a program that you started yourself: whoever sent you a code or a link would get into your
          account.
        </p>
        {problem === undefined ? null : (
          <p role="alert">
            <strong>{problem}</strong>
          </p>
        )}
        <form method="post" action="/device" autocomplete="off">
          <p>
            <label>
              The code that the program shows
              <br />
              <input name="code" value={code} required maxlength={50} spellcheck={false} class="mono" />
            </label>
          </p>
          <p>
            <label>
              A token of yours with the scope admin; the program does not get this one
              <br />
              <input name="token" type="password" required maxlength={200} autocomplete="off" />
            </label>
          </p>
          <p>
            <label>
              Name of the new token
              <br />
              <input name="name" value="device login" required maxlength={100} />
            </label>
          </p>
          <p>
            <label>
              What the program may do
              <br />
              <select name="scope">
                {SCOPES.map((scope) => (
                  <option value={scope} selected={scope === "write"}>
                    {WHAT[scope]}
                  </option>
                ))}
              </select>
            </label>
          </p>
          <p>
            <button type="submit" name="decision" value="approve">
              Approve
            </button>{" "}
            <button type="submit" name="decision" value="deny">
              Deny
            </button>
          </p>
        </form>
      </>
    ),
  });
}

export const device = (c: Ctx) => page(c, (c.req.query("user_code") ?? "").slice(0, 50));

export async function decideDevice(c: Ctx) {
  const text = new TextDecoder().decode(await readAll(c.req.raw.body, MAX_BODY_BYTES));
  const form = Form.safeParse(Object.fromEntries(new URLSearchParams(text)));
  if (!form.success) return page(c, "", "Fill in everything.");
  const { code, token, name, scope, decision } = form.data;
  const { platform } = callerOf(c);
  try {
    const actor = await identify(platform, `Bearer ${token}`);
    await decideDeviceLogin({ platform, actor }, code, decision === "approve" ? { name, scope } : null);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    return page(c, code, error.code === "invalid_credentials" ? "That is no token of this hub." : error.message);
  }
  return answer(c, {
    title: "Done · OWM Hub",
    children: (
      <>
        <h1>{decision === "approve" ? "The program is let in" : "The program is sent away"}</h1>
        <p class="lead">You can close this page; the program goes on by itself within some seconds.</p>
      </>
    ),
  });
}
