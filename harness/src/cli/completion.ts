/**
 * `daxfault completion SHELL`: a script that completes commands, options and their values, made from the command line as
 * it is and from the catalogue. Static: nothing is started while somebody types.
 */
import type { Command, Option } from "commander";
import { exitCodes, proposals } from "../../../language/src/index.ts";
import { engineNames } from "../engines/registry.ts";
import { loadScenarios } from "../fixtures.ts";
import { allCommands, wordsOf } from "./help.ts";

export const shells = ["bash", "zsh"] as const;
export type Shell = (typeof shells)[number];

const ids = {
  scenario: () => loadScenarios().map(({ id }) => id),
  proposal: () => proposals.map(({ id }) => id),
  engine: () => [...engineNames],
};

/** Options whose values are ids; all others without choices take what the shell finds: files. */
const idsOfOption: Readonly<Record<string, keyof typeof ids>> = {
  "--proposal": "proposal",
  "--engine": "engine",
  "--scenario": "scenario",
};
const idsOfArguments: Readonly<Record<string, keyof typeof ids>> = {
  run: "scenario",
  repro: "scenario",
  explore: "proposal",
};

const flagsOf = ({ short, long }: Option): readonly string[] =>
  [short, long].filter((flag) => flag !== undefined);

/** `null`: it takes no value. */
function valuesOf(option: Option): readonly string[] | null {
  if (option.isBoolean() || option.negate) return null;
  const kind = idsOfOption[option.long ?? ""];
  return kind === undefined ? (option.argChoices ?? []) : ids[kind]();
}

function argumentsOf(command: Command): readonly string[] {
  const kind = idsOfArguments[wordsOf(command)];
  const choices = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
  return [
    ...command.commands.map((below) => below.name()),
    ...choices,
    ...(kind === undefined ? [] : ids[kind]()),
  ];
}

/** Names stand in single quotes: none has one, and a name that had would end the script. */
function quoted(words: readonly string[]): string {
  const text = words.join(" ");
  if (text.includes("'")) throw new Error(`a name with a quote cannot be completed: ${text}`);
  return `'${text}'`;
}

/** The lines of a `case`: what stands behind COMMAND and OPTION, or COMMAND alone. */
function caseLines(command: Command): readonly string[] {
  const words = wordsOf(command);
  const options = command.options.flatMap((option) => {
    const values = valuesOf(option);
    if (values === null) return [];
    return [
      `    ${flagsOf(option)
        .map((flag) => `'${words} ${flag}'`)
        .join(" | ")}) words=${quoted(values)} ;;`,
    ];
  });
  return [...options, `    '${words} ') words=${quoted(argumentsOf(command))} ;;`];
}

function flagLine(command: Command): string {
  const flags = [...command.options.flatMap(flagsOf), "--help"];
  return `    '${wordsOf(command)}') words=${quoted(flags)} ;;`;
}

/** The flags of `command` that a value follows. */
function takersLine(command: Command): string {
  const takers = command.options.filter((option) => valuesOf(option) !== null).flatMap(flagsOf);
  return `    '${wordsOf(command)}') takers=${quoted(takers)} ;;`;
}

export function completionScript(program: Command, shell: Shell): string {
  const commands = allCommands(program);
  const known = commands.map(wordsOf).filter((words) => words !== "");
  const start = shell === "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : "";
  return `# Completion of daxfault, made by \`daxfault completion ${shell}\`.
${start}_daxfault() {
  local current="\${COMP_WORDS[COMP_CWORD]}" command='' option='' word words='' takers='' index
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    if [[ $word == -* ]]; then
      option=$word
      continue
    fi
    case "\${command:+$command }$word" in
      ${known.map((words) => `'${words}'`).join(" | ")}) [[ -z $option ]] && command="\${command:+$command }$word" ;;
    esac
  done
  case $command in
${commands.map(takersLine).join("\n")}
  esac
  [[ " $takers " == *" $option "* ]] || option=''
  if [[ $current == -* ]]; then
    case $command in
${commands.map(flagLine).join("\n")}
    esac
  else
    case "$command $option" in
${commands.flatMap(caseLines).join("\n")}
    esac
  fi
  COMPREPLY=()
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$words" -- "$current")
}
complete -o default -F _daxfault daxfault
`;
}

export function completionCommand(program: Command, shell: Shell): number {
  process.stdout.write(completionScript(program, shell));
  return exitCodes.ok;
}
