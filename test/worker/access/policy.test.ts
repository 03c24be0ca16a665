// The policy as a table: every actor against every action on every kind of repository.

import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type AccessStatus,
  type Actor,
  decide,
  type Gate,
  type Holder,
  type Purpose,
  type Request,
  type Role,
  type Scope,
  UNGATED,
} from "../../../src/access/policy";
import { type JobId, parseJobId } from "../../../src/ids";

const OWNER = "account-owner";
const ORG = "account-org";
const JOB = parseJobId("job_01hzzzzzzzzzzzzzzzzzzzzzzz", "id");

const person = (id: string, scope: Scope, role?: Role, isAdmin = false): Extract<Actor, { kind: "user" }> => ({
  kind: "user",
  id,
  name: id,
  isAdmin,
  scope,
  tokenName: "token",
  tokenId: `token of ${id}`,
  memberships: role === undefined ? [] : [{ orgId: ORG, orgName: "org", orgFullname: "Org", role }],
});

const REPO = "repo-1";
const xet = (holder: Holder | null, write = true, jobId: JobId | null = null): Actor => ({
  kind: "xet",
  grant: { repoId: REPO, write, tokenId: null, jobId },
  holder,
});

const ACTORS = {
  anonymous: { kind: "anonymous" },
  stranger: person("stranger", "admin"),
  reader: person("reader", "admin", "read"),
  writer: person("writer", "admin", "write"),
  "writer with a read token": person("writer", "read", "write"),
  manager: person("manager", "admin", "admin"),
  "manager with a write token": person("manager", "write", "admin"),
  administrator: person("root", "admin", undefined, true),
  "administrator with a read token": person("root", "read", undefined, true),
  "a job": { kind: "job", id: JOB },
  "the hub": { kind: "hub" },
  "nobody's Xet token": xet({ kind: "anonymous" }),
  "a stranger's Xet token": xet(person("stranger", "admin")),
  "a reader's Xet token": xet(person("reader", "admin", "read")),
  "a writer's Xet token": xet(person("writer", "admin", "write")),
  "a writer's Xet token for reading": xet(person("writer", "admin", "write"), false),
  "a Xet token that was got with a read token": xet(person("writer", "read", "write")),
  "a Xet token of whom nobody asked about": xet(null),
  "the Xet token of a writer's job": xet(person("writer", "write", "write"), true, JOB),
  "the Xet token of a reader's job": xet(person("reader", "write", "read"), true, JOB),
} as const satisfies Record<string, Actor>;
type Name = keyof typeof ACTORS;

const PURPOSES: Purpose[] = ["download", "merge", "evaluate", "train"];
const open = { ownerId: ORG, private: false, ...UNGATED };
const closed = { ownerId: ORG, private: true, ...UNGATED };
const gated = { ...open, gated: "manual" } as const;
const asked = (accountId: string, status: AccessStatus, repo = open) =>
  ({ ...repo, gated: "manual", access: { accountId, status } }) as const;
const job = { id: JOB, actorId: "reader", outputOwnerId: ORG, ended: false };

const EVERYONE: Name[] = [
  "anonymous",
  "stranger",
  "reader",
  "writer",
  "writer with a read token",
  "manager",
  "manager with a write token",
  "administrator",
  "administrator with a read token",
  "the hub",
];
const XET: Name[] = [
  "nobody's Xet token",
  "a stranger's Xet token",
  "a reader's Xet token",
  "a writer's Xet token",
  "a writer's Xet token for reading",
  "a Xet token that was got with a read token",
];
const XET_OF_MEMBERS = XET.slice(2);
const MEMBERS = EVERYONE.filter((name) => name !== "anonymous" && name !== "stranger");
const SIGNED_IN = EVERYONE.filter((name) => name !== "anonymous");
const canWriteToken = (names: Name[]): Name[] => names.filter((name) => !name.endsWith("with a read token"));
const canAdminToken = (names: Name[]): Name[] =>
  canWriteToken(names).filter((name) => name !== "manager with a write token");
const XET_OF_WRITERS = XET.slice(3);
/** Who writes to a repository may use its files, whoever else must ask. */
const GATE_KEEPERS = MEMBERS.filter((name) => name !== "reader");
const WRITERS = canWriteToken(MEMBERS).filter((name) => name !== "reader");
const MANAGERS = WRITERS.filter((name) => name !== "writer");

/** Each request with everyone who may make it; everyone else may not. */
const TABLE: [string, Request, Name[]][] = [
  ["see a public repository", { action: "repo.read", repo: open }, EVERYONE],
  ["see a private repository", { action: "repo.read", repo: closed }, MEMBERS],
  ...PURPOSES.flatMap((purpose): [string, Request, Name[]][] => [
    [`use a public repository to ${purpose}`, { action: "repo.use", repo: open, purpose }, EVERYONE],
    [`use a private repository to ${purpose}`, { action: "repo.use", repo: closed, purpose }, MEMBERS],
    [`use a gated repository to ${purpose}`, { action: "repo.use", repo: gated, purpose }, GATE_KEEPERS],
    [
      `use a gated repository to ${purpose} after being let in`,
      { action: "repo.use", repo: asked("stranger", "accepted"), purpose },
      ["stranger", ...GATE_KEEPERS],
    ],
    [
      `use a private, gated repository to ${purpose} after being let in`,
      { action: "repo.use", repo: asked("reader", "accepted", closed), purpose },
      ["reader", ...GATE_KEEPERS],
    ],
  ]),
  ["see a gated repository", { action: "repo.read", repo: gated }, EVERYONE],
  ["propose a change to a gated repository", { action: "pull.create", repo: gated }, canWriteToken(SIGNED_IN)],
  [
    "read a gated repository's stored bytes by hash",
    { action: "xet.read", repo: { id: REPO, ...gated } },
    ["the hub", ...XET_OF_WRITERS],
  ],
  [
    "read a gated repository's stored bytes by hash after being let in",
    { action: "xet.read", repo: { id: REPO, ...asked("stranger", "accepted") } },
    ["the hub", "a stranger's Xet token", ...XET_OF_WRITERS],
  ],
  ["write to a public repository", { action: "repo.write", repo: open }, WRITERS],
  ["write to a private repository", { action: "repo.write", repo: closed }, WRITERS],
  ["propose a change to a public repository", { action: "pull.create", repo: open }, canWriteToken(SIGNED_IN)],
  ["propose a change to a private repository", { action: "pull.create", repo: closed }, canWriteToken(MEMBERS)],
  [
    "add to a pull request of one's own",
    { action: "pull.push", repo: open, authorId: "reader" },
    [...WRITERS, "reader"],
  ],
  ["see a public collection", { action: "collection.read", collection: open }, EVERYONE],
  ["see a private collection", { action: "collection.read", collection: closed }, MEMBERS],
  ["keep a collection", { action: "collection.write", collection: open }, WRITERS],
  ["follow someone", { action: "follow" }, canWriteToken(SIGNED_IN)],
  ["keep webhooks of one's own", { action: "webhook.manage" }, canWriteToken(SIGNED_IN)],
  ["merge a pull request", { action: "pull.merge", repo: open }, WRITERS],
  ["discuss a public repository", { action: "discussion.write", repo: open }, canWriteToken(SIGNED_IN)],
  ["discuss a private repository", { action: "discussion.write", repo: closed }, canWriteToken(MEMBERS)],
  ["edit a reader's comment", { action: "discussion.edit", repo: closed, authorId: "reader" }, ["reader", "the hub"]],
  [
    "edit what a stranger wrote before the repository was private",
    { action: "discussion.edit", repo: closed, authorId: "stranger" },
    ["the hub"],
  ],
  [
    "close a reader's discussion, or hide a reader's comment",
    { action: "discussion.steer", repo: closed, authorId: "reader" },
    [...WRITERS, "reader"],
  ],
  [
    "close a stranger's discussion of a private repository",
    { action: "discussion.steer", repo: closed, authorId: "stranger" },
    WRITERS,
  ],
  ["ask for access to a repository", { action: "access.ask", repo: gated }, canWriteToken(SIGNED_IN)],
  ["ask for access to a private repository", { action: "access.ask", repo: closed }, canWriteToken(MEMBERS)],
  ["let people at the files of a repository", { action: "access.manage", repo: gated }, WRITERS],
  ["change the settings of a repository", { action: "repo.manage", repo: open }, MANAGERS],
  ["delete a repository", { action: "repo.delete", repo: open }, MANAGERS],
  [
    "read a public repository's stored bytes by hash",
    { action: "xet.read", repo: { id: REPO, ...open } },
    ["the hub", ...XET],
  ],
  [
    "read a private repository's stored bytes by hash",
    { action: "xet.read", repo: { id: REPO, ...closed } },
    ["the hub", ...XET_OF_MEMBERS],
  ],
  [
    "read another repository's stored bytes by hash",
    { action: "xet.read", repo: { id: "repo-2", ...open } },
    ["the hub"],
  ],
  [
    "upload to a public repository by hash",
    { action: "xet.write", repo: { id: REPO, ...open } },
    [
      "the hub",
      "a stranger's Xet token",
      "a reader's Xet token",
      "a writer's Xet token",
      "the Xet token of a writer's job",
    ],
  ],
  [
    "upload to a private repository by hash",
    { action: "xet.write", repo: { id: REPO, ...closed } },
    ["the hub", "a reader's Xet token", "a writer's Xet token", "the Xet token of a writer's job"],
  ],
  [
    "ask what a public repository's upload need not send",
    { action: "xet.find", repo: { id: REPO, ...open } },
    ["the hub", ...XET, "the Xet token of a writer's job"],
  ],
  ["upload to another repository by hash", { action: "xet.write", repo: { id: "repo-2", ...open } }, ["the hub"]],
  ["create a repository in the organization", { action: "repo.create", ownerId: ORG }, WRITERS],
  [
    "create a repository in someone's own namespace",
    { action: "repo.create", ownerId: OWNER },
    ["administrator", "the hub"],
  ],
  ["start a job", { action: "job.create" }, canWriteToken(SIGNED_IN)],
  ["see a job whose output goes to the organization", { action: "job.read", job }, MEMBERS],
  ["cancel a job of one's own or of one's organization", { action: "job.cancel", job }, [...MANAGERS, "reader"]],
  ["do a job's work", { action: "job.work", job }, ["a job", "the hub"]],
  ["do an ended job's work", { action: "job.work", job: { ...job, ended: true } }, ["the hub"]],
  [
    "do another job's work",
    { action: "job.work", job: { ...job, id: parseJobId("job_01hyyyyyyyyyyyyyyyyyyyyyyy", "id") } },
    ["the hub"],
  ],
  [
    "read the organization's trail",
    { action: "audit.read", scope: { ownerId: ORG } },
    ["manager", "manager with a write token", "administrator", "administrator with a read token", "the hub"],
  ],
  [
    "read the hub's trail",
    { action: "audit.read", scope: "hub" },
    ["administrator", "administrator with a read token", "the hub"],
  ],
  ["found an organization", { action: "org.create" }, canAdminToken(SIGNED_IN)],
  ["create a token of one's own", { action: "token.create" }, canAdminToken(SIGNED_IN)],
  ["manage members", { action: "org.manage", orgId: ORG }, ["manager", "administrator", "the hub"]],
  ["create accounts", { action: "account.create" }, ["administrator", "the hub"]],
  ["collect garbage", { action: "storage.collect" }, ["administrator", "the hub"]],
  ["create tokens for others", { action: "account.token.create" }, ["administrator", "the hub"]],
];

/** The same person with a token that allows more. */
const asWriter = (actor: Actor): Actor => (actor.kind === "user" ? { ...actor, scope: "admin" } : actor);

const names = Object.keys(ACTORS).filter((name): name is Name => name in ACTORS);

describe("the policy", () => {
  for (const [what, request, allowed] of TABLE)
    it(`lets exactly the right ones ${what}`, () => {
      const decided = names.filter((name) => decide(ACTORS[name], request).allow);
      expect(decided.sort()).toEqual([...allowed].sort());
    });

  it("opens gated files to nobody but writers and whoever's own request was accepted, and hides no more than that", () => {
    const access = fc.option(
      fc.record({
        accountId: fc.constantFrom("stranger", "reader", "writer", "root"),
        status: fc.constantFrom<AccessStatus>("pending", "accepted", "rejected"),
      }),
    );
    const gate: fc.Arbitrary<Gate> = fc.record({ gated: fc.constantFrom("auto", "manual"), access });
    const anyone = fc.constantFrom(...names.map((name) => ACTORS[name]));
    fc.assert(
      fc.property(anyone, gate, fc.boolean(), fc.constantFrom(...PURPOSES), (actor, asking, isPrivate, purpose) => {
        const repo = { ownerId: ORG, private: isPrivate };
        const use = decide(actor, { action: "repo.use", repo: { ...repo, ...asking }, purpose });
        const without = decide(actor, { action: "repo.use", repo: { ...repo, ...UNGATED }, purpose });
        const isLetIn =
          actor.kind === "user" && asking.access?.accountId === actor.id && asking.access.status === "accepted";
        const writes = decide(asWriter(actor), { action: "repo.write", repo }).allow;
        expect(use.allow).toBe(without.allow && (isLetIn || writes));
        // The gate is named exactly where nothing else is in the way.
        expect(!use.allow && use.gate === true).toBe(without.allow && !use.allow);
      }),
    );
  });

  it("gives a reason with every refusal", () => {
    for (const [, request] of TABLE)
      for (const name of names) {
        const decision = decide(ACTORS[name], request);
        if (!decision.allow) expect(decision.reason.length).toBeGreaterThan(5);
      }
  });
});
