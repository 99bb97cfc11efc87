/**
 * Writes what documents say of results and of the program, from the program: docs/reference.md (commands, proposals,
 * properties, scenarios), docs/schema.json, docs/scorecard.md, docs/daxfault.1, and the parts of other documents between the lines
 * `<!-- generated: NAME -->` and `<!-- end of NAME -->`. `npm run docs` writes; with `--check` nothing is written, and a
 * difference is an error.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const main = join("dist", "harness/src/cli/main.js");

/** Runs the command line as users do; its width must not depend on this terminal. */
function daxfault(...args: readonly string[]): string {
  const { COLUMNS: _columns, ...env } = process.env;
  return execFileSync(process.execPath, [main, ...args], { encoding: "utf8", env });
}

type Row = Readonly<Record<string, unknown>>;

function list(topic: string): readonly Row[] {
  return daxfault("list", topic, "--json", "-")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Row);
}

const text = (value: unknown): string => (value === null || value === undefined ? "" : String(value));

/** As this repository formats Markdown: lines of prose at most 120 columns wide. */
function formatted(file: string, content: string): string {
  const biome = join("node_modules", ".bin", "biome");
  return execFileSync(biome, ["format", `--stdin-file-path=${file}`], { encoding: "utf8", input: content });
}

/** The commands' names, as `--help` lists them, group by group. */
function commandNames(): readonly string[] {
  const help = daxfault("--help");
  const [first = "", ...groups] = help.slice(0, help.indexOf("\nExamples:")).split(/^\S.*:$/m);
  if (!first.startsWith("Usage:")) throw new Error(`the help begins with ${JSON.stringify(first)}`);
  return groups
    .flatMap((group) => [...group.matchAll(/^ {2}([a-z]+)/gm)])
    .map(([, name]) => name ?? "")
    .filter((name) => name !== "help");
}

function commandsSection(): string {
  return commandNames()
    .map((name) => `### daxfault ${name}\n\n\`\`\`\n${daxfault(name, "--help").trimEnd()}\n\`\`\``)
    .join("\n\n");
}

/** A sentence; empty for what is. */
const sentence = (words: string): string => (words === "" || /[.!?]$/.test(words) ? words : `${words}.`);

/** A definition list: a name, and sentences about it. */
function definitions(items: readonly (readonly [name: unknown, ...sentences: string[]])[]): string {
  return items
    .map(
      ([name, ...sentences]) => `- \`${text(name)}\`: ${sentences.map(sentence).filter(Boolean).join(" ")}`,
    )
    .join("\n");
}

function proposalsSection(): string {
  return definitions(
    list("proposals").map((one) => {
      const axes = ["kvm", "exits", "vmm", "guest", "server"].map((axis) => `${axis} ${text(one[axis])}`);
      return [one.id, text(one.title), `Needs: ${text(one.needsText)}`, `Axes: ${axes.join(", ")}`];
    }),
  );
}

function propertiesSection(): string {
  return definitions(
    list("properties").map((one) => [
      one.id,
      text(one.title),
      one.decided === true ? "" : "Nothing decides it yet",
    ]),
  );
}

function scenariosSection(): string {
  return definitions(
    list("scenarios").map((one) => {
      const decides = (one.properties as readonly string[]).join(", ");
      const about =
        one.proposals === null ? "all proposals" : (one.proposals as readonly string[]).join(", ");
      return [
        one.id,
        text(one.purpose),
        `Layout ${text(one.layout)}, backing ${text(one.backing)}`,
        decides === "" ? "" : `Decides ${decides}`,
        `About ${about}`,
      ];
    }),
  );
}

function reference(): string {
  return `# Reference

For people who look up a command, a proposal, a property or a scenario. Written by \`npm run docs\` from what the program says
of itself; do not edit it.

## Commands

${commandsSection()}

## Proposals

A point on the axes: one for each component that would have to change, one for what makes the exit (exits), and where the APIC lives. APF: async page faults. What the values mean is in \`docs/model.md\`.

${proposalsSection()}

## Properties

${propertiesSection()}

## Scenarios

${scenariosSection()}
`;
}

type Scorecard = {
  readonly table: string;
  readonly details: string;
  readonly kernels: string;
  readonly linuxGuests: string;
  readonly linuxRaces: string;
  readonly symptoms: string;
  readonly comparison: string;
  readonly answer: string;
};

/** The package's own scorecard: recorded real kernels, the model, documents. Throws if they contradict each other. */
function scorecardParts(): Scorecard {
  const main = join("dist", "harness/src/cli/scorecard-main.js");
  return JSON.parse(execFileSync(process.execPath, [main], { encoding: "utf8" })) as Scorecard;
}

const scorecard = scorecardParts();

const fenced = (content: string): string => `\`\`\`\n${content}\n\`\`\``;

/** Parts of documents, by name. */
const parts: Readonly<Record<string, () => string>> = {
  answer: () => fenced(scorecard.answer),
  "kernels measured": () => scorecard.kernels,
  "linux guests": () => scorecard.linuxGuests,
  symptoms: () => scorecard.symptoms,
  "races with linux guests": () => scorecard.linuxRaces,
};

function scorecardDocument(): string {
  return `# Scorecard

For people who weigh proposals against each other: does a property hold for a proposal, and what decided it? Written by
\`npm run docs\` from the recordings in \`fixtures\`, the model and \`fixtures/documented.json\`; do not edit it.

\`daxfault list properties\` says what each column means, \`daxfault list proposals\` what each row is and needs.
\`daxfault run --verbose\` prints the same table of what it ran, \`daxfault explore\` of the model alone.

## On Linux guests

What the talk proposes and what a VMM can do today, each on a real Linux guest with a file mapped through virtio-fs with DAX,
on real KVM. A cell is the access that met the lost page, and the VMM or the guest's kernel where something became of them.
The kernels with a patch are built by \`--kernel debian:6.12+PROPOSAL\` (\`docs/kernels.md\`).

${scorecard.comparison}

## All proposals

${fenced(scorecard.table)}

## Kernels

What the real cells are from.

${scorecard.kernels}

## Cell by cell

${scorecard.details}
`;
}

/** The document with its generated parts as they should be. Throws for a part that nothing generates. */
function withParts(document: string): string {
  return document.replaceAll(
    /^<!-- generated: (.+) -->\n[\s\S]*?^<!-- end of \1 -->$/gm,
    (_whole, name: string) => {
      const make = parts[name];
      if (make === undefined)
        throw new Error(`no generated part ${JSON.stringify(name)}; known: ${Object.keys(parts).join(", ")}`);
      return `<!-- generated: ${name} -->\n\n${make()}\n\n<!-- end of ${name} -->`;
    },
  );
}

const documents = ["README.md", ...readdirSync("docs").map((file) => join("docs", file))].filter(
  (file) => file.endsWith(".md") && readFileSync(file, "utf8").includes("<!-- generated: "),
);

const contents: Readonly<Record<string, string>> = {
  "docs/reference.md": reference(),
  "docs/schema.json": daxfault("schema"),
  "docs/scorecard.md": scorecardDocument(),
  "docs/daxfault.1": daxfault("manual"),
  ...Object.fromEntries(documents.map((file) => [file, withParts(readFileSync(file, "utf8"))])),
};

for (const [target, content] of Object.entries(contents)) {
  const wanted = target.endsWith(".md") ? formatted(target, content) : content;
  if (!process.argv.includes("--check")) {
    writeFileSync(target, wanted);
  } else if (!existsSync(target) || readFileSync(target, "utf8") !== wanted) {
    console.error(`${target} is not what the program says of itself: npm run docs`);
    process.exitCode = 1;
  }
}
