/** The command line's help, the completion and the manual page: complete, and true of the command line. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Command, CommanderError } from "commander";
import { describe, expect, it } from "vitest";
import { makeProgram } from "../../src/cli/command-line.ts";
import { completionScript } from "../../src/cli/completion.ts";
import { allCommands, examplesOf, wordsOf } from "../../src/cli/help.ts";
import { manualPage, roff } from "../../src/cli/manual.ts";

const commands = allCommands(makeProgram());

/** Parses a line as a shell would have given it, and runs nothing. */
function parse(line: string): void {
  const program = makeProgram();
  for (const command of allCommands(program)) {
    command.exitOverride().configureOutput({ writeErr: () => {}, outputError: () => {} });
    if (command.commands.length === 0) command.action(() => {});
  }
  const [, ...words] = line
    .replace(/ [|>] .*/, "")
    .split(" ")
    .map((word) => word.replaceAll("'", ""));
  program.parse(words, { from: "user" });
}

describe("help", () => {
  it.each(commands.map((command) => [wordsOf(command), command] as const))(
    "of %j ends with examples that the command line takes",
    (words, command: Command) => {
      const examples = examplesOf(command);
      expect(examples).not.toEqual([]);
      for (const [line] of examples) {
        expect(line.startsWith(`daxfault ${words}`.trimEnd())).toBe(true);
        expect(() => parse(line), line).not.toThrow();
      }
    },
  );

  it("would notice an example that is none", () => {
    expect(() => parse("daxfault run --frobnicate")).toThrow(CommanderError);
    expect(() => parse("daxfault list nothing")).toThrow(CommanderError);
  });

  it("has each command in a group", () => {
    const help = makeProgram().helpInformation();
    expect(help).not.toMatch(/^Commands:/m);
    expect(help).toMatch(/^What happens to the guest, and what helps:\n {2}run/m);
  });
});

/** What bash offers for the last word. */
function offered(...words: readonly string[]): readonly string[] {
  const quoted = words.map((word) => `'${word}'`).join(" ");
  const script = `${completionScript(makeProgram(), "bash")}
COMP_WORDS=(${quoted})
COMP_CWORD=${words.length - 1}
_daxfault
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const text = execFileSync("bash", ["--norc", "-c", script], { encoding: "utf8" });
  return text.split("\n").filter((line) => line !== "");
}

describe("completion in bash", () => {
  it.each([
    [
      ["daxfault", "comp"],
      ["compare", "completion"],
    ],
    [["daxfault", "bench", "fe"], ["fence"]],
    [
      ["daxfault", "list", ""],
      ["scenarios", "proposals", "engines", "properties"],
    ],
    [["daxfault", "run", "load-after-trunc"], ["load-after-truncate"]],
    [["daxfault", "run", "--verb"], ["--verbose"]],
    [["daxfault", "run", "x", "--proposal", "apf-l"], ["apf-loop"]],
    [["daxfault", "run", "-p", "apf-loop", "apf-g"], ["apf-guest"]],
    [["daxfault", "run", "--verbose", "hang-without"], ["hang-without-apf"]],
    [["daxfault", "explore", "apf-guest", "--scenario", "hang-w"], ["hang-without-apf"]],
    [
      ["daxfault", "bench", "guards", "--guest", ""],
      ["micro", "linux"],
    ],
    // Files: the shell's own.
    [["daxfault", "run", "--json", "lo"], []],
    [["daxfault", "report", ""], []],
  ])("%j", (words, expected) => {
    const found = offered(...words);
    expect(found.filter((one) => expected.includes(one))).toEqual(expected);
    if (expected.length === 0) expect(found).toEqual([]);
  });

  it("offers no id where an option takes none", () => {
    expect(offered("daxfault", "run", "--list", "--prop")).toEqual(["--proposal", "--proposals"]);
    expect(offered("daxfault", "bench", "guards", "--guest", "l")).toEqual(["linux"]);
  });
});

/** What zsh makes of each line at the Tab key: a shell in a terminal of its own (zsh/zpty), whose Ctrl-X prints the line. */
function completedByZsh(lines: readonly string[]): readonly string[] {
  const folder = mkdtempSync(join(tmpdir(), "daxfault-zsh-"));
  try {
    writeFileSync(join(folder, "completion"), completionScript(makeProgram(), "zsh"));
    writeFileSync(
      join(folder, "start"),
      `autoload -Uz compinit; compinit -u -D; source ${folder}/completion
say() { print -r -- "<<$BUFFER>>"; BUFFER= }; zle -N say; bindkey '^X' say; bindkey '^I' expand-or-complete; print "<<"ready">>"\n`,
    );
    const typed = lines.map(
      (line) => `zpty -n -w z $'${line}\\t\\x18'; zpty -r z out '*<<*>>*'; print -r -- $out`,
    );
    const script = `zmodload zsh/zpty; zpty z 'zsh -f -i'; zpty -w z 'source ${folder}/start'
zpty -r z out '*<<ready>>*'
${typed.join("\n")}
zpty -d z`;
    const text = execFileSync("zsh", ["-f", "-c", script], { encoding: "utf8", timeout: 20_000 });
    return [...text.matchAll(/<<(.*?)>>/g)].map(([, line = ""]) => line.trimEnd());
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function zshVersion(): string | null {
  const { status, stdout } = spawnSync("zsh", ["--version"], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : null;
}

const zsh = zshVersion();

describe.skipIf(zsh === null)(`completion in zsh (${zsh ?? "zsh is not installed"})`, () => {
  it("is that of bash", () => {
    const lines = [
      "daxfault resc",
      "daxfault rescue --acc",
      "daxfault run load-after-trunc",
      "daxfault list sc",
    ];
    expect(completedByZsh(lines)).toEqual([
      "daxfault rescue",
      "daxfault rescue --accept-zeros",
      "daxfault run load-after-truncate",
      "daxfault list scenarios",
    ]);
  });
});

describe("the manual page", () => {
  const page = manualPage(makeProgram());

  it("has every command and every option", () => {
    for (const command of commands.slice(1)) {
      expect(page).toContain(`.SS daxfault ${roff(wordsOf(command))}`);
      for (const { flags } of command.options) expect(page).toContain(`.B ${roff(flags)}\n`);
    }
  });

  it("lets no text pass for a macro", () => {
    expect(roff(".SH x\n'y a-b \\fB")).toBe("\\&.SH x\n\\&'y a\\-b \\efB");
    const macros = page.split("\n").filter((line) => /^[.']/.test(line));
    expect(macros.filter((line) => !/^\.(TH|SH|SS|TP|PP|B|I)( |$)/.test(line))).toEqual([]);
  });
});
