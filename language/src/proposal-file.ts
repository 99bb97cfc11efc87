/** Proposals of the user's own: a file is a proposal or a list of them, a folder all its `*.json`. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { exitParts, guestParts, kvmParts, lapicPlaces, serverParts, vmmParts } from "./axes.ts";
import { issueText } from "./issue-text.ts";
import { readJsonSource } from "./json-source.ts";
import { type Proposal, splitVmm } from "./proposal.ts";
import { PROPOSALS_MAX } from "./scenario/limits.ts";
import { filesOf, readText } from "./scenario/load.ts";
import { Problems, pathText, ScenarioError } from "./scenario/problem.ts";

const axis = <Word extends string>(words: readonly Word[]) => z.enum([...words, "none"]);

const proposalShape = z.strictObject({
  id: z
    .string()
    .max(32)
    .regex(/^[a-z][a-z-]*$/, "an id is words of a-z with - between them"),
  title: z.string().min(1).max(200),
  kvm: axis(kvmParts),
  // What KVM does by itself, where nothing else is written.
  exits: axis(exitParts).optional(),
  vmm: axis(vmmParts),
  guest: axis(guestParts),
  server: z.enum(serverParts),
  lapic: z.enum(lapicPlaces).nullable(),
});

type ProposalShape = z.infer<typeof proposalShape>;

function toProposal({ exits, ...rest }: ProposalShape): Proposal {
  return { ...rest, exits: exits ?? (rest.vmm === "none" ? "none" : "kvm") };
}

/** What to write for a value of the earlier `vmm` axis; null where there is none. */
function insteadOf(proposal: unknown): string | null {
  const { vmm, guest } = (proposal ?? {}) as { readonly vmm?: unknown; readonly guest?: unknown };
  const split = splitVmm(String(vmm), String(guest));
  if (split === null) return null;
  return `"vmm" is what is done at the exit; what makes it is "exits": write "exits": "${split.exits}", "vmm": "${split.vmm}"`;
}

function loadFile(path: string): readonly Proposal[] {
  const problems = new Problems();
  const source = readJsonSource(readText(path));
  if (source.kind === "error") {
    problems.addSyntax(source);
    throw new ScenarioError(path, problems.list);
  }
  for (const { path: at, line } of source.duplicates)
    problems.add(pathText(at), "twice in this object", line);
  if (problems.list.length > 0) throw new ScenarioError(path, problems.list);
  const isList = Array.isArray(source.value);
  const list: readonly unknown[] = isList ? (source.value as unknown[]) : [source.value];
  if (list.length > PROPOSALS_MAX) {
    problems.add("", `${list.length} proposals are more than the limit ${PROPOSALS_MAX}`, 1);
    throw new ScenarioError(path, problems.list);
  }
  const parsed = z.array(proposalShape).safeParse(list);
  if (parsed.success) return parsed.data.map(toProposal);
  for (const issue of parsed.error.issues) {
    const at = pathText(isList ? issue.path : issue.path.slice(1));
    const [index, member] = issue.path;
    const instead = member === "vmm" ? insteadOf(list[Number(index)]) : null;
    problems.add(at, instead ?? issueText(issue, z.array(proposalShape), list), source.lineOf(at));
  }
  throw new ScenarioError(path, problems.list);
}

/** Throws a ScenarioError that names file, line and member. */
export function loadProposals(path: string): readonly Proposal[] {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return loadFile(path);
  return filesOf(path).flatMap((name) => loadFile(join(path, name)));
}
