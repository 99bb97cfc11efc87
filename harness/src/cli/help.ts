/** What the program's help says beyond names and options: groups of commands, and examples of each. Nothing is loaded for it. */
import { Command } from "commander";

const groups = {
  question: "What happens to the guest, and what helps:",
  host: "On a host with VMs:",
  measure: "Measurements:",
  own: "This program:",
} as const;

/** A command line, and what it does in a few words. */
type Example = readonly [command: string, what: string];

type Help = { readonly group?: keyof typeof groups; readonly examples: readonly Example[] };

/** By the command's words; the program itself is the empty text. */
const helps: Readonly<Partial<Record<string, Help>>> = {
  "": {
    examples: [
      ["daxfault run", "the answer, as far as this machine can run it"],
      ["daxfault run hang-without-apf --kernel debian:6.12", "the endless loop, on that kernel"],
      ["daxfault diagnose", "why a VM of this host hangs"],
    ],
  },
  run: {
    group: "question",
    examples: [
      ["daxfault run", "everything that this machine can run"],
      ["daxfault run 'load-*' --proposal apf-loop mce-injection", "some cases"],
      ["daxfault run hang-without-apf --kernel debian:6.12", "on a kernel in a VM"],
      ["daxfault run --kernel debian:6.12+./my.patch", "on that kernel with a patch of mine"],
      ["daxfault run ./mine.json --html mine.html", "a scenario of mine, with a report"],
    ],
  },
  report: {
    group: "question",
    examples: [
      ["daxfault report --html report.html", "the last run, for a browser"],
      ["daxfault report one.jsonl two.jsonl --text -", "two recorded runs as one, for a mail"],
    ],
  },
  repro: {
    group: "question",
    examples: [["daxfault repro hang-without-apf --out hang", "the loop step by step; hang/ can be sent"]],
  },
  explore: {
    group: "question",
    examples: [
      ["daxfault explore apf-guest", "what holds for today's KVM in every order of events"],
      ["daxfault explore apf-guest --scenario load-after-truncate", "all outcomes of one scenario"],
    ],
  },
  compare: {
    group: "question",
    examples: [
      ["daxfault compare run.jsonl", "does the model allow what was recorded?"],
      ["daxfault compare before.jsonl after.jsonl", "two kernels against each other"],
    ],
  },
  list: { group: "question", examples: [["daxfault list proposals", "what each is, and what it needs"]] },
  new: {
    group: "question",
    examples: [["daxfault new scenario mine.json", "a scenario to begin with"]],
  },
  diagnose: {
    group: "host",
    examples: [
      ["daxfault diagnose", "every VM of this host"],
      ["daxfault diagnose --pid 4711 --mail hang.txt", "one, as a mail to a list"],
      ["daxfault diagnose --log qemu.log", "one that has ended already"],
    ],
  },
  protect: {
    group: "host",
    examples: [
      ["daxfault protect --pid $(pidof qemu-system-x86_64)", "what these VMs have mapped"],
      ["daxfault protect --dir /srv/guests", "the files of all VMs below that folder"],
    ],
  },
  rescue: {
    group: "host",
    examples: [
      ["daxfault rescue --pid 4711", "what would end the hang, at which price; does nothing"],
      ["daxfault rescue --pid 4711 --accept-zeros", "makes the file as long again as it is mapped"],
    ],
  },
  serve: {
    group: "host",
    examples: [
      ["daxfault serve /srv/data /mnt/data", "a mount, until Ctrl-C"],
      ["daxfault serve /srv/data --socket-path /run/fs.sock --dax-window 512M", "in place of virtiofsd"],
    ],
  },
  guards: {
    group: "measure",
    examples: [["daxfault guards --guard lease-kernel", "one guard against every way of truncating"]],
  },
  bench: { group: "measure", examples: [["daxfault bench fs", "the file server and its peers"]] },
  "bench protect": { examples: [["daxfault bench protect --rounds 100", "a tenth of it"]] },
  "bench virtiofsd": {
    examples: [
      ["daxfault bench virtiofsd --rounds 0 --guests 0", "both servers without a guest, some seconds"],
    ],
  },
  "bench explore": { examples: [["daxfault bench explore --json -", "as JSON lines"]] },
  "bench fs": {
    examples: [["daxfault bench fs --rows metadata --placement apart", "a part of it"]],
  },
  "bench guest-fs": {
    examples: [["daxfault bench guest-fs --kernel debian:6.12 --suite none", "fio alone"]],
  },
  "bench apf": { examples: [["daxfault bench apf --delay 100", "a file server that takes 100 ms"]] },
  "bench fence": { examples: [["daxfault bench fence --rounds 100 --races 1000", "a tenth of it"]] },
  "bench kvm": { examples: [["daxfault bench kvm --rounds 3", "a short form"]] },
  "bench guards": {
    examples: [["daxfault bench guards --guard notify none --rounds 1000", "two guards, some minutes"]],
  },
  doctor: { group: "own", examples: [["daxfault doctor", "what is missing, and what to do"]] },
  kernels: {
    group: "own",
    examples: [["daxfault kernels", "what can stand behind --kernel"]],
  },
  "kernels build": {
    examples: [["daxfault kernels build debian:6.12+final-efault", "KVM's modules with that patch"]],
  },
  schema: { group: "own", examples: [["daxfault schema run", "the lines of run --json"]] },
  completion: {
    group: "own",
    examples: [
      ["daxfault completion bash > ~/.local/share/bash-completion/completions/daxfault", "for bash"],
      ["daxfault completion zsh > ~/.daxfault.zsh", "for zsh: source it in .zshrc, after compinit"],
    ],
  },
  manual: { group: "own", examples: [["daxfault manual | man -l -", "read it"]] },
};

/** For a terminal of this width. */
const EXAMPLE_COLUMNS = 100;

/** Side by side where all of them fit, else each below what it does. */
function examplesText(examples: readonly Example[]): string {
  const width = Math.max(...examples.map(([command]) => command.length));
  const beside = examples.map(([command, what]) => `  ${command.padEnd(width)}  ${what}`);
  const fits = beside.every((line) => line.length <= EXAMPLE_COLUMNS);
  const lines = fits ? beside : examples.flatMap(([command, what]) => [`  # ${what}`, `  ${command}`]);
  return `\nExamples:\n${lines.join("\n")}`;
}

/** A command's words below the program's name: `bench fs`. */
export function wordsOf(command: Command): string {
  return command.parent === null ? "" : `${wordsOf(command.parent)} ${command.name()}`.trimStart();
}

/** The program and all commands below it, in the order of the help. */
export function allCommands(command: Command): readonly Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

export function examplesOf(command: Command): readonly Example[] {
  return helps[wordsOf(command)]?.examples ?? [];
}

/** The command whose help is asked for; throws commander's error where a word is none. */
function commandAskedFor(program: Command): Command {
  const firstOption = program.args.findIndex((word) => word.startsWith("-"));
  const words = firstOption < 0 ? program.args : program.args.slice(0, firstOption);
  let command = program;
  for (const word of words[0] === "help" ? words.slice(1) : words) {
    if (word === "help") continue;
    const next = command.commands.find((one) => one.name() === word);
    if (next === undefined) {
      // What a command takes besides commands is no matter of its help.
      if (command.commands.length > 0) command.parse([word], { from: "user" });
      return command;
    }
    command = next;
  }
  return command;
}

/** Help of a command that there is not is an error, as the command itself is; of one below another it is that one's. */
function checkHelp(program: Command): void {
  program.addHelpText("beforeAll", ({ command, error }) => {
    const asked = commandAskedFor(program);
    if (asked !== command || (error && program.args[0] === "help")) asked.help();
    return "";
  });
}

/** Gives the program and its commands their groups and examples. */
export function addHelp(program: Command): void {
  program.addHelpCommand(
    new Command("help").argument("[command...]").summary("this, or a command's").helpGroup(groups.own),
  );
  checkHelp(program);
  for (const command of allCommands(program)) {
    const help = helps[wordsOf(command)];
    if (help?.group !== undefined) command.helpGroup(groups[help.group]);
    if (help !== undefined) command.addHelpText("after", examplesText(help.examples));
  }
}
