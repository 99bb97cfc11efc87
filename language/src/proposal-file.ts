/** Proposals of the user's own: a file is a proposal or a list of them, a folder all its `*.json`. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { guestParts, kvmParts, lapicPlaces, serverParts, vmmParts } from "./axes.ts";
import { readJsonSource } from "./json-source.ts";
import type { Proposal } from "./proposal.ts";
import { FILE_TEXT_MAX } from "./scenario/limits.ts";
import { Problems, pathText, ScenarioError } from "./scenario/problem.ts";

const axis = <Word extends string>(words: readonly Word[]) => z.enum([...words, "none"]);

const proposalShape = z.strictObject({
  id: z
    .string()
    .max(32)
    .regex(/^[a-z][a-z-]*$/, "an id is words of a-z with - between them"),
  title: z.string().min(1).max(200),
  kvm: axis(kvmParts),
  vmm: axis(vmmParts),
  guest: axis(guestParts),
  server: z.enum(serverParts),
  lapic: z.enum(lapicPlaces).nullable(),
});

function loadFile(path: string): readonly Proposal[] {
  const problems = new Problems();
  const { size } = statSync(path);
  if (size > FILE_TEXT_MAX) {
    problems.add("", `${size} bytes are more than the limit ${FILE_TEXT_MAX}`);
    throw new ScenarioError(path, problems.list);
  }
  const source = readJsonSource(readFileSync(path, "utf8"));
  if (source.kind === "error") {
    problems.add("", `not JSON: ${source.message}`, source.line);
    throw new ScenarioError(path, problems.list);
  }
  const isList = Array.isArray(source.value);
  const parsed = z.array(proposalShape).safeParse(isList ? source.value : [source.value]);
  if (parsed.success) return parsed.data;
  for (const issue of parsed.error.issues) {
    const at = pathText(isList ? issue.path : issue.path.slice(1));
    problems.add(at, issue.message, source.lineOf(at));
  }
  throw new ScenarioError(path, problems.list);
}

/** Throws a ScenarioError that names file, line and member; I/O errors pass as they are. */
export function loadProposals(path: string): readonly Proposal[] {
  if (!statSync(path).isDirectory()) return loadFile(path);
  const files = readdirSync(path).filter((name) => name.endsWith(".json"));
  return files.sort().flatMap((name) => loadFile(join(path, name)));
}
