/** `daxfault manual`: the manual page, in the macros of man(7), made from what the commands say of themselves. */
import type { Command, Option } from "commander";
import { exitCodes, exitCodeText, signalOfExitCode } from "../../../language/src/index.ts";
import { version } from "../paths.ts";
import { allCommands, examplesOf, wordsOf } from "./help.ts";

/** Text that troff takes for text: backslashes, hyphens, and a dot or quote at the beginning of a line. */
export function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^[.']/gm, (sign) => `\\&${sign}`);
}

const paragraphs = (text: string): string => text.split("\n\n").map(roff).join("\n.PP\n");

function optionLines({ flags, description, argChoices, defaultValue }: Option): readonly string[] {
  const choices = argChoices === undefined ? "" : ` One of: ${argChoices.join(", ")}.`;
  const usual = typeof defaultValue === "string" ? ` Default: ${defaultValue}.` : "";
  return [
    ".TP",
    `.B ${roff(flags)}`,
    roff(`${description}${description.endsWith(".") ? "" : "."}${choices}${usual}`),
  ];
}

function commandLines(command: Command): readonly string[] {
  const words = wordsOf(command);
  const usage = command.usage().replace("[options] ", "").replace("[options]", "");
  const description = command.description() === "" ? command.summary() : command.description();
  const examples = examplesOf(command);
  return [
    `.SS daxfault ${roff(`${words} ${usage}`.trim())}`,
    paragraphs(description),
    ...command.options.flatMap(optionLines),
    ...(examples.length === 0 ? [] : [".PP", "Examples:"]),
    ...examples.flatMap(([line, what]) => [".TP", `.B ${roff(line)}`, roff(what)]),
  ];
}

/** One screen of exit codes, as the program has them. */
function exitLines(): readonly string[] {
  const codes = Object.values(exitCodes).filter((code) => signalOfExitCode(code) === null);
  return codes.flatMap((code) => [".TP", `.B ${code}`, roff(exitCodeText(code))]);
}

export function manualPage(program: Command): string {
  const [, ...commands] = allCommands(program);
  return `${[
    `.TH DAXFAULT 1 "" "daxfault ${version()}" "User Commands"`,
    ".SH NAME",
    "daxfault \\- what happens to a guest when the host truncates a file that is mapped into its memory",
    ".SH SYNOPSIS",
    ".B daxfault",
    ".I command",
    "[options] [arguments]",
    ".SH DESCRIPTION",
    paragraphs(program.description()),
    ...examplesOf(program).flatMap(([line, what]) => [".TP", `.B ${roff(line)}`, roff(what)]),
    ".SH COMMANDS",
    ...commands.flatMap(commandLines),
    ".SH EXIT STATUS",
    ...exitLines(),
    ".TP",
    ".B 129, 130, 143",
    "interrupted by SIGHUP, SIGINT, SIGTERM; what was printed is a part",
    ".SH FILES",
    ".TP",
    ".I $XDG_STATE_HOME/daxfault/last\\-run.jsonl",
    "the record of the last run, which",
    ".B daxfault report",
    "reads; ~/.local/state where the variable is not set",
    ".TP",
    ".I $XDG_CACHE_HOME/daxfault",
    "kernels that were loaded or built; ~/.cache where the variable is not set",
  ].join("\n")}\n`;
}

export function manualCommand(program: Command): number {
  process.stdout.write(manualPage(program));
  return exitCodes.ok;
}
