/**
 * Writes what documents say of results and of the program, from the program: docs/reference.md (commands, proposals,
 * properties, scenarios), docs/schema.json, docs/scorecard.md, and the parts of other documents between the lines
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

/** A cell of a table: one line, no bar. */
const cell = (value: unknown): string => text(value).replaceAll("|", "\\|").replaceAll("\n", " ");

function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const line = (cells: readonly unknown[]): string => `| ${cells.map(cell).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** The commands' names, as `--help` lists them. */
function commandNames(): readonly string[] {
  const help = daxfault("--help");
  const commands = help.slice(help.indexOf("Commands:"));
  return [...commands.matchAll(/^ {2}([a-z]+)/gm)]
    .map(([, name]) => name ?? "")
    .filter((name) => name !== "help");
}

function commandsSection(): string {
  return commandNames()
    .map((name) => `### daxfault ${name}\n\n\`\`\`\n${daxfault(name, "--help").trimEnd()}\n\`\`\``)
    .join("\n\n");
}

function proposalsSection(): string {
  return table(
    ["proposal", "what", "kvm", "exits", "vmm", "guest", "server", "needs"],
    list("proposals").map((one) => [
      `\`${text(one.id)}\``,
      one.title,
      one.kvm,
      one.exits,
      one.vmm,
      one.guest,
      one.server,
      one.needsText,
    ]),
  );
}

function propertiesSection(): string {
  return table(
    ["property", "holds if", "decided by"],
    list("properties").map((one) => [
      `\`${text(one.id)}\``,
      one.title,
      one.decided === true ? "cases that name it" : "nothing yet",
    ]),
  );
}

function scenariosSection(): string {
  return table(
    ["scenario", "purpose", "layout", "backing", "decides", "about"],
    list("scenarios").map((one) => [
      `\`${text(one.id)}\``,
      one.purpose,
      one.layout,
      one.backing,
      (one.properties as readonly string[]).join(", "),
      one.proposals === null ? "all" : (one.proposals as readonly string[]).join(", "),
    ]),
  );
}

function reference(): string {
  return `# Reference

Written by \`npm run docs\` from what the program says of itself; do not edit it.

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
  scorecard: () => fenced(scorecard.table),
  "kernels measured": () => scorecard.kernels,
  "linux guests": () => scorecard.linuxGuests,
  symptoms: () => scorecard.symptoms,
  comparison: () => scorecard.comparison,
  "races with linux guests": () => scorecard.linuxRaces,
};

function scorecardDocument(): string {
  return `# Scorecard

Written by \`npm run docs\` from the recordings in \`fixtures/observed\`, the model and \`fixtures/documented.json\`; do not edit it.
What each column means: \`daxfault list properties\`. What each row is and needs: \`daxfault list proposals\`.

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

const generated: Readonly<Record<string, string>> = {
  "docs/reference.md": reference(),
  "docs/schema.json": daxfault("schema"),
  "docs/scorecard.md": scorecardDocument(),
  ...Object.fromEntries(documents.map((file) => [file, withParts(readFileSync(file, "utf8"))])),
};

for (const [target, wanted] of Object.entries(generated)) {
  if (!process.argv.includes("--check")) {
    writeFileSync(target, wanted);
  } else if (!existsSync(target) || readFileSync(target, "utf8") !== wanted) {
    console.error(`${target} is not what the program says of itself: npm run docs`);
    process.exitCode = 1;
  }
}
