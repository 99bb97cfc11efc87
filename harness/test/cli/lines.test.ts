/** What each command writes with --json, run for real, against the schema that `daxfault schema` publishes. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { lineSchema, type SchemaName } from "../../src/cli/lines.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { cli, jsonLines } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

const compile = (schema: object): ValidateFunction =>
  new Ajv2020({ strict: false, validateFormats: false }).compile(schema);
const all = compile(lineSchema(null));

/** Runs `daxfault ARGS --json -`; every line follows the command's schema and the whole document. Returns the types. */
async function typesOf(name: SchemaName, args: readonly string[]): Promise<ReadonlySet<unknown>> {
  const { stdout, stderr } = await cli([...args, "--json", "-"]);
  const lines = jsonLines(stdout);
  expect(lines.length, stderr).toBeGreaterThan(0);
  const validate = compile(lineSchema(name));
  for (const line of lines) {
    for (const check of [validate, all]) {
      check(line);
      expect(check.errors, `${args.join(" ")}: ${JSON.stringify(line).slice(0, 500)}`).toBeNull();
    }
  }
  return new Set(lines.map(({ type }) => type));
}

describe("the schema", () => {
  it.each([
    ["doctor", ["doctor"], ["machine", "feature", "engine"]],
    ["list", ["list", "scenarios"], ["scenario"]],
    ["list", ["list", "proposals"], ["proposal"]],
    ["list", ["list", "engines"], ["engine"]],
    ["list", ["list", "properties"], ["property"]],
    ["run", ["run", "load-after-truncate", "--list"], ["planned"]],
    ["explore", ["explore", "apf-loop"], ["property"]],
    ["explore", ["explore", "--claims"], ["claim"]],
    ["explore", ["explore", "apf-loop", "--scenario", "load-after-truncate"], ["end"]],
  ] as const)("of %s describes %j", async (name, args, types) => {
    expect(await typesOf(name, args)).toEqual(new Set(types));
  });

  it("of one command refuses the lines of another that have the same type", async () => {
    const [scenario] = jsonLines((await cli(["list", "scenarios", "--json", "-"])).stdout);
    expect(compile(lineSchema("list"))(scenario)).toBe(true);
    expect(compile(lineSchema("run"))(scenario)).toBe(false);
    expect(all({ ...scenario, more: 1 })).toBe(false);
  });
});

describe("the schema of compare", () => {
  it("describes what the model does not allow, and two runs that differ", async () => {
    const folder = caseFolder();
    const [file, other] = [join(folder, "run.jsonl"), join(folder, "other.jsonl")];
    const { stdout } = await cli([
      "run",
      "load-after-truncate",
      "--proposal",
      "efault-exit",
      "--engine",
      "model",
      "--json",
      "-",
    ]);
    writeFileSync(file, stdout);
    writeFileSync(other, stdout.replaceAll('"killed"', '"zero"'));
    expect(await typesOf("compare", ["compare", file, other])).toEqual(new Set(["difference"]));
    expect(await typesOf("compare", ["compare", other])).toEqual(new Set(["difference", "comparison"]));
  });
});

const support = supportOf(thisMachine(), ["kvm", "micro-guest", "fuse", "root"]);
const note = support.kind === "no" ? ` (skipped: ${support.reason})` : "";

/**
 * The shortest run of each that has all of its parts. Not `bench explore`: a quarter of a minute for one line that the
 * compiler holds against its type.
 */
describe.skipIf(support.kind === "no")(`the schema of measurements${note}`, () => {
  it.each([
    ["guards", ["guards", "--guard", "notify", "--way", "truncate"], ["guard"]],
    ["bench", ["bench", "guards", "--guard", "notify", "--rounds", "3"], ["race", "guard-price"]],
    ["bench", ["bench", "fence", "--rounds", "3", "--races", "3"], ["bench"]],
    ["bench", ["bench", "apf", "--rounds", "1"], ["bench"]],
    ["bench", ["bench", "kvm", "--rounds", "1"], ["bench"]],
    ["bench", ["bench", "fs", "--repetitions", "1", "--placement", "together"], ["bench"]],
  ] as const)(
    "of %s describes %j",
    async (name, args, types) => {
      expect(await typesOf(name, args)).toEqual(new Set(types));
    },
    120_000,
  );
});
