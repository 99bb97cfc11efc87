import { availableParallelism } from "node:os";
import { Argument, Command, CommanderError, Option } from "commander";
import {
  cacheModes,
  exitCodes,
  fileHandlesUses,
  signalOfExitCode,
  transports,
  windowGuards,
} from "../../../language/src/command-words.ts";
import { LostChildError } from "../../../sys/src/lost-child.ts";
import { defaultNames, modelNames, realNames } from "../engines/registry.ts";
import { errorStack, errorText } from "../error-text.ts";
import { version } from "../paths.ts";
import { messageText } from "../report/encode.ts";
import { formats } from "../report/formats.ts";
import { surroundingsText } from "../surroundings.ts";
import { REPORT_LINE } from "./defects.ts";
import { addHelp } from "./help.ts";
import type { SchemaName } from "./lines.ts";
import { commitOutputs, discardOutputs, OutputError } from "./open-outputs.ts";
import { UsageError } from "./usage.ts";

/** The command line. Each command's module is loaded only when it is called: `--help` and errors must be quick. */

type JsonOption = { readonly json?: string };

const schemaNames: readonly SchemaName[] = [
  "run",
  "explore",
  "compare",
  "bench",
  "doctor",
  "kernels",
  "list",
  "guards",
  "diagnose",
  "protect",
  "rescue",
];

const JSON_HELP = "write JSON lines to FILE, or to standard output with -";

/** The options that say where reports go. */
function addFormats(command: Command): Command {
  command.option("--json <FILE>", JSON_HELP);
  for (const { name, help } of formats) command.option(`--${name} <FILE>`, `${help}; - is standard output`);
  return command;
}

/** For an option that may be given several times. */
const collect = (value: string, earlier: readonly string[] = []): readonly string[] => [...earlier, value];

/** The options that say where the user's own cases are. */
function addSources(command: Command): Command {
  return command
    .option(
      "--scenarios <DIR>",
      "also the scenarios of this folder (expectations: its folder kinds)",
      collect,
    )
    .option("--proposals <FILE>", "also the proposals of this file or folder", collect);
}

async function style() {
  const { styleFor } = await import("../report/style.ts");
  return styleFor(process.stdout);
}

function addRun(program: Command): void {
  const command = program
    .command("run")
    .summary("run cases, judge them, say what came out")
    .description(
      "Runs every case (scenario x proposal x engine) that this machine can run, and says whether each went as " +
        "expected of this kernel. SCENARIO is an id, a pattern such as 'load-*', or a scenario file (*.json).\n\n" +
        "Exit code: 0 all as expected; 1 something unexpected; 2 some cases are inconclusive; 3 nothing ran; " +
        "64 usage; 70 defect of daxfault; 129, 130, 143 interrupted.",
    )
    .argument(
      "[SCENARIO...]",
      "ids, patterns, files or hang-of-the-talk; all if none is given (with --kernel, or --vmm qemu under TCG: the headlines)",
    )
    .option("-p, --proposal <P...>", "only these proposals (ids or patterns)")
    .option("-e, --engine <E...>", "only these engines")
    .option(
      "-k, --kernel <SPEC...>",
      "inside a VM that boots this kernel: a path of a bzImage, debian:6.1, debian:backports, host; " +
        "debian:6.12+PATCH, built here: a proposal's name (daxfault kernels) or ./FILE",
    )
    .option(
      "--kvm <PROPOSAL>",
      "the kernel's KVM has this built in (default: as its patches say; else today)",
    )
    .option("--modules <DIR>", "modules of kernels given as paths (lib/modules/RELEASE)")
    .option(
      "--guest-kernel <SPEC>",
      "of the Linux guest (--engine linux): as --kernel, or small, compiled here; debian:6.12 if left out",
    )
    .option("--vmm <VMM...>", "of the Linux guest (--engine linux): own, qemu, or both")
    .option("--qemu <PATH>", "a QEMU with a DAX window (default: that on PATH, else Debian's in the cache)")
    .option("--verbose", "print the table of all cases and the scorecard, not the answer alone")
    .option("--list", "say what would run, and run nothing")
    .option("--shard <I/N>", "only the I-th of N parts of the cases; daxfault report merges them")
    .option("--repeat <N>", "run each case N times and count its outcomes", "1")
    .option("--busy <N>", "beside N processes that never sleep (with --kernel: inside the VM)", "0")
    .option("--timeout <SECONDS>", "hard limit of one run of a case", "20")
    .addOption(
      new Option("-j, --jobs <N>", "cases at a time").default(
        String(Math.min(2, availableParallelism())),
        "2, or 1 on one core",
      ),
    );
  addFormats(addSources(command)).action(async (names: string[], options) => {
    const { run } = await import("./run.ts");
    process.exitCode = await run(names, options);
  });
  addFormats(
    program
      .command("report")
      .summary("merge recorded runs (shards, repetitions, machines) and render them again")
      .description(
        "Reads FILEs of run --json (- is standard input), merges them and renders them in every format; without FILE, the " +
          "last run. Runs nothing.\n\n" +
          "Exit code: as of a run that had all these cases; 2 if shards are missing.",
      )
      .argument("[FILE...]", "recorded runs; the last run if none is given"),
  ).action(async (files: string[], options) => {
    const { reportCommand } = await import("./report.ts");
    process.exitCode = await reportCommand(files, options);
  });
}

function addRepro(program: Command): void {
  const command = program
    .command("repro")
    .summary("one case step by step, with a bundle to send to others")
    .description(
      "Runs one case and prints each event as it happens. Of the cases of ID it takes one that shows a defect of the " +
        "kernel, if there is one, on the most real engine; --proposal and --engine choose another.\n\n" +
        "Leaves a folder with report.txt (for a mailing list), report.html, evidence.jsonl, trace.txt (KVM's tracepoints " +
        "where tracefs allows, else its counters), environment.json, scenario.json, repro.sh; with --kernel console.txt, " +
        "that kernel's console; with a Linux guest guest-console.txt; and reproducer.c, where one C program shows the " +
        "defect that was seen.\n\nExit code: as of run.",
    )
    .argument("<ID>", "a scenario: id or file")
    .option("-p, --proposal <P>", "with this proposal")
    .option("-e, --engine <E>", "on this engine")
    .option("-k, --kernel <SPEC>", "inside a VM that boots this kernel (as of run)")
    .option("--kvm <PROPOSAL>", "its KVM has this built in (as of run)")
    .option("--modules <DIR>", "its modules, where it is given as a path (lib/modules/RELEASE)")
    .option("--guest-kernel <SPEC>", "of the Linux guest (--engine linux): as --kernel")
    .option("--vmm <VMM>", "of the Linux guest (--engine linux): own or qemu")
    .option("--qemu <PATH>", "a QEMU with a DAX window (as of run)")
    .option("-o, --out <DIR>", "the folder (default: daxfault-repro-ID in the working directory)")
    .option("--timeout <SECONDS>", "hard limit of the case", "20");
  addSources(command).action(async (id: string, { proposal, engine, kernel, vmm, ...options }) => {
    const { reproCommand } = await import("./repro.ts");
    process.exitCode = await reproCommand(id, {
      ...options,
      ...(proposal === undefined ? {} : { proposal: [proposal] }),
      ...(engine === undefined ? {} : { engine: [engine] }),
      ...(kernel === undefined ? {} : { kernel: [kernel] }),
      ...(vmm === undefined ? {} : { vmm: [vmm] }),
    });
  });
}

function addKernels(program: Command): void {
  const kernels = program
    .command("kernels")
    .summary("kernels that --kernel can stand for, patches, and the cache; build SPEC builds one")
    .description(
      "Lists the kernels of the archive that this machine's apt is set up with, suite by suite, and what of them is in the " +
        "cache already; the patches that can stand behind a + (debian:6.12+final-efault); and the cache, folder by folder. " +
        "Exit code: 0; 3 none can be had.",
    )
    .option("--clean", "list nothing: empty the cache, but for what a process of daxfault uses")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options: JsonOption & { readonly clean?: boolean }) => {
      const { kernelsCommand } = await import("./kernels.ts");
      process.exitCode = await kernelsCommand(options);
    });
  kernels
    .command("build")
    .summary("build a kernel with patches, and say where its files are")
    .description(
      "Builds what run --kernel SPEC would build first: KVM's modules of Debian's kernel with patches " +
        "(debian:6.12+final-efault, debian:6.12+./my.patch, +a+b), or the small kernel of guests (small, small+PATCH). Runs " +
        "nothing in it.\n\nExit code: 0; 64 it cannot be built, and why; 129, 130, 143 interrupted.",
    )
    .argument("<SPEC>", "as run --kernel takes it")
    .option("--json <FILE>", JSON_HELP)
    .action(async (spec: string, _options: JsonOption, command: Command) => {
      const { kernelsBuildCommand } = await import("./kernels.ts");
      // Both have --json: commander gives it to the command above.
      process.exitCode = await kernelsBuildCommand(spec, command.optsWithGlobals());
    });
}

function addOthers(program: Command): void {
  program
    .command("doctor")
    .summary("what this machine can run, and if not, why and what to do")
    .description("Says engine by engine what this machine can run, and for each gap why and what to do.")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options: JsonOption) => {
      const { doctor } = await import("./doctor.ts");
      process.exitCode = await doctor(options, await style());
    });
  addKernels(program);
  program
    .command("list")
    .summary("scenarios, proposals, engines, properties: one line each")
    .description("Lists what run, explore and report know by name; --json has all that is known of each.")
    .addArgument(
      new Argument("<TOPIC>", "what to list").choices(["scenarios", "proposals", "engines", "properties"]),
    )
    .option("--json <FILE>", JSON_HELP)
    .option("--scenarios <DIR>", "also the scenarios of this folder", collect)
    .option("--proposals <FILE>", "also the proposals of this file or folder", collect)
    .action(async (topic: "scenarios" | "proposals" | "engines" | "properties", options) => {
      const { list } = await import("./list.ts");
      process.exitCode = await list(topic, options, await style());
    });
  program
    .command("new")
    .summary("a starting point for a scenario or proposal of your own, with comments")
    .description(
      "Writes FILE with comments that say what can stand where; for a scenario also kinds/FILE beside it, which says " +
        "what is expected. The file's name is the id.",
    )
    .addArgument(new Argument("<WHAT>", "what to begin").choices(["scenario", "proposal"]))
    .argument("<FILE>", "where, for example mine/my-case.json")
    .action(async (what: "scenario" | "proposal", file: string) => {
      const { newCommand } = await import("./new.ts");
      process.exitCode = newCommand(what, file);
    });
  program
    .command("schema")
    .summary("the JSON Schema of the lines that --json writes")
    .description(
      "Of COMMAND's lines (report and repro write those of run); without COMMAND all in one document, by command in $defs.",
    )
    .addArgument(new Argument("[COMMAND]", "whose lines").choices(schemaNames))
    .action(async (name: SchemaName | undefined) => {
      const { lineSchema } = await import("./lines.ts");
      console.log(JSON.stringify(lineSchema(name ?? null), null, 2));
    });
}

function addModel(program: Command): void {
  const exploring = program
    .command("explore")
    .summary("all interleavings in the model: properties, states, counterexamples")
    .description(
      "Without --scenario: every property of every PROPOSAL, with the number of states and, for what does not hold, a " +
        "command that prints the shortest way into it. With --scenario: what can come out of that scenario. " +
        "With --replay: the story, step by step.\n\n" +
        "Exit code: 0 decided; 1 a claim is refuted; 2 a bound was met; 64 usage.",
    )
    .argument("[PROPOSAL...]", "ids or patterns; all if none is given")
    .option("-s, --scenario <S>", "one scenario, by its id, or those of a file")
    .option("--replay <TOKEN>", "print this path of the scenario step by step")
    .option("--mermaid", "with --replay: as Mermaid source")
    .option("--no-timer", "with --replay of a scenario: the guest has no timer interrupt")
    .option("--claims", "decide the claims of the talk instead: those named in place of PROPOSAL, or all")
    .option("--max-states <N>", "stop a search there, and say so", "5000000")
    .option("--json <FILE>", JSON_HELP);
  addSources(exploring).action(async (names: string[], options) => {
    const { exploreCommand } = await import("./explore.ts");
    process.exitCode = exploreCommand(names, options, await style());
  });
  const usualEngines = [...modelNames, ...realNames].filter((name) =>
    defaultNames.some((one) => one === name),
  );
  const comparing = program
    .command("compare")
    .summary("the model against reality, or two recorded runs")
    .description(
      "Without FILE: runs the real engines now and asks for each observation whether the model allows it. With one " +
        "FILE (of run --json): the same for what was recorded, each case in the text of its scenario and the proposal " +
        "that were recorded with it. With two: the runs against each other.\n\n" +
        "Exit code: 0 no difference; 1 something was observed that is not allowed; 2 a bound was met; 3 nothing compared.",
    )
    .argument("[FILE...]", "recorded runs")
    .option("--engines <LIST>", "model and what to compare it with", usualEngines.join())
    .option("--all", "also what the model allows and no run has shown, and what was not compared")
    .option(
      "--kvm <PROPOSAL>",
      "the kernel that was recorded has this built in (default: what the record says of it): is it what the model says?",
    )
    .option("--json <FILE>", JSON_HELP);
  addSources(comparing).action(async (files: string[], options) => {
    const { compareCommand } = await import("./compare.ts");
    process.exitCode = await compareCommand(files, options, await style());
  });
}

function addBench(program: Command): void {
  const bench = program
    .command("bench")
    .summary("measurements")
    .description(
      "Measures this machine. Each measurement says what it needs, and gives medians; --json has every figure. Have nothing " +
        "else run meanwhile.",
    );
  bench
    .command("explore")
    .summary("states a second and bytes a state, beside SPIN on the same steps")
    .description(
      "Explores the model and counts: states a second and bytes a state, beside SPIN on the same steps.",
    )
    .option("--json <FILE>", JSON_HELP)
    .action(async (options: JsonOption) => {
      const { benchExploreCommand } = await import("./bench-explore.ts");
      process.exitCode = await benchExploreCommand(options);
    });
  bench
    .command("fs")
    .summary("the file server beside libfuse's passthrough_hp and the folder itself")
    .description(
      "Every contender in turn, pinned the same way: client and server on a CPU each, then both on one. " +
        "+PT: the kernel reads and writes the files itself (FUSE_PASSTHROUGH). A quiet machine is needed.",
    )
    .option("--peer <FILE>", "libfuse's passthrough_hp: \"$(scripts/bench-peer)\" builds Debian's")
    .option("--folder <DIR>", "where the sources lie (a tmpfs measures servers, not disks)")
    .option("--repetitions <N>", "rounds that count; one more warms up", "5")
    .addOption(new Option("--placement <P>", "only this one").choices(["apart", "together"]))
    .option(
      "--rows <GROUPS>",
      "only these: sequential, random, metadata, getattr, beside; separated by commas",
    )
    .option("--contenders <NAMES>", "only these and their rivals, separated by commas: devfuse,devfuse +PT")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { benchFsCommand } = await import("./bench-fs.ts");
      process.exitCode = await benchFsCommand(options, await style());
    });
  addBenchGuestFs(bench);
  addBenchVirtiofsd(bench);
  bench
    .command("apf")
    .summary("what asynchronous page faults are worth, by proposal")
    .description(
      "Tasks that touch pages whose READ takes long, beside tasks that work, all on one vCPU: how much work is done, and " +
        "how long a page takes, where the fault is synchronous, halts the vCPU, or is told to the guest.",
    )
    .option("--delay <MS>", "how long the file server takes for a READ", "10")
    .option("--rounds <N>", "each proposal so many times, in turn; medians are shown", "3")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { benchApfCommand } = await import("./bench-apf.ts");
      process.exitCode = await benchApfCommand(options, await style());
    });
  addBenchVcpu(bench);
  addBenchGuards(bench);
  addBenchProtect(bench);
}

function addBenchVcpu(bench: Command): void {
  bench
    .command("fence")
    .summary("how long the fence takes to get a vCPU out of KVM's loop, and what happens without it")
    .description(
      "A vCPU is in KVM's endless loop; the VMM maps PROT_NONE over the page and counts the time until KVM_RUN returns. " +
        "Then the same without that mapping, and races of two vCPUs. Needs /dev/kvm.",
    )
    .option("--rounds <N>", "with one vCPU", "1000")
    .option("--races <N>", "with two vCPUs on the page", "10000")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { benchFenceCommand } = await import("./bench-fence.ts");
      process.exitCode = await benchFenceCommand(options, await style());
    });
  bench
    .command("kvm")
    .summary("what an exit of KVM costs, beside the same loop in C")
    .description(
      "A guest leaves KVM_RUN all the time, driven from TypeScript and from C, in turn. Needs /dev/kvm and gcc.",
    )
    .option("--rounds <N>", "half a second of each in turn, so many times; medians are shown", "9")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options: JsonOption & { readonly rounds: string }) => {
      const { benchKvmCommand } = await import("./bench-kvm.ts");
      process.exitCode = await benchKvmCommand(options);
    });
}

function addBenchProtect(bench: Command): void {
  bench
    .command("protect")
    .summary("what daxfault protect costs whoever opens, reads, writes and truncates")
    .description(
      "Calls of another process on a file that is mapped and on one beside it: without protection, with it for a process's " +
        "files, and with it for the folder, in blocks that take turns. Needs root and Linux 6.14.\n\n" +
        "Exit code: 0; 3 nothing can be protected here; 64 usage.",
    )
    .option("--rounds <N>", "so many calls of each kind", "1000")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { benchProtectCommand } = await import("./bench-protect.ts");
      process.exitCode = await benchProtectCommand(options);
    });
}

function addBenchGuestFs(bench: Command): void {
  bench
    .command("guest-fs")
    .summary("the file server in a Linux guest: outside suites and fio over virtio-fs, with DAX and without")
    .description(
      "Boots KERNEL in a VM, runs the suites on a disk there, and boots a Linux guest on our VMM that runs them on two " +
        "folders of that disk over virtio-fs: without and with a DAX window. Then fio on both. Minutes to half an hour " +
        "where QEMU emulates the CPU.\n\n" +
        "Exit code: 0; 1 a suite sees a difference that fixtures/fs-errata.json does not have, or a part has failed; " +
        "2 nothing came out; 3 nothing ran; 64 usage.",
    )
    .requiredOption("-k, --kernel <SPEC>", "the kernel with KVM (as of run)")
    .option("--guest-kernel <SPEC>", "the guest's; the same if it is left out")
    .option("--suite <NAME...>", "only these; none: fio alone (default: those of few processes)")
    .option("--whole", "suites in full size, not in the short form for emulated CPUs")
    .option("--size <MIB>", "of fio's file; 0: no fio", "4")
    .option("--rounds <N>", "each fio job so many times, in turn; medians are shown", "1")
    .option("--window <MIB>", "the DAX window", "64")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { benchGuestFsCommand } = await import("./bench-guest-fs.ts");
      process.exitCode = await benchGuestFsCommand(options, await style());
    });
}

function addBenchVirtiofsd(bench: Command): void {
  bench
    .command("virtiofsd")
    .summary("the server for a VMM beside Debian's virtiofsd, in one guest")
    .description(
      "First a driver of ours sends the same requests to each server in turns, without a guest. Then a Linux guest in QEMU has a " +
        "virtio-fs of either server, and one of ours with a DAX window, and does the same work on each in turns. Then guests that read the same file, for each of the three: what memory that takes. QEMU and " +
        "virtiofsd are Debian's, loaded into the cache if they are not there. Needs root and gcc. Some two minutes where QEMU " +
        "emulates the CPU.\n\n" +
        "Exit code: 0; 2 nothing came out; 3 nothing ran; 64 usage.",
    )
    .option("--guest-kernel <SPEC>", "the guest's kernel (as of run)", "debian:6.12")
    .option("--qemu <FILE>", "a QEMU with a DAX window (as of run)")
    .addOption(new Option("--accel <A>", "what runs the guest").choices(["kvm", "tcg"]).default("tcg"))
    .option("--size <MIB>", "of the file", "8")
    .option("--files <N>", "made, looked at and removed a turn", "200")
    .option("--operations <N>", "of random access, a turn", "500")
    .option("--requests <N>", "without a guest, a turn", "1000")
    .option(
      "--rounds <N>",
      "each so many times, in turn, after ten that are not counted; medians are shown; 0: no guest does any",
      "5",
    )
    .option("--guests <N>", "that hold the same file at once; 0: memory is not measured", "2")
    .option(
      "--programs",
      "the work in the guest is done by Debian's fio, find and tar, not by a program of ours",
    )
    .option(
      "--tree <DIR>",
      "with --programs: what find and tar walk, as a kernel's sources; it is copied three times",
    )
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { benchVirtiofsdCommand } = await import("./bench-virtiofsd.ts");
      process.exitCode = await benchVirtiofsdCommand(options, await style());
    });
}

function addBenchGuards(bench: Command): void {
  bench
    .command("guards")
    .summary("races of a guest that never stops touching against a truncater; what guards cost the host")
    .description(
      "For each guard ROUNDS rounds of truncate, recall, touch and regrow on one VM: losses, wrong bytes, the window of " +
        "notification. Then the price: what is added to opening and truncating, in turn with no guard. " +
        "10,000 rounds take some ten minutes; daxfault report draws what --json has written.\n\n" +
        "With --guest linux races alone: two processes of a Linux guest touch the file through virtio-fs's DAX window, on a " +
        "vCPU each, and the host makes it shorter in every way that the guard sees, by turns.\n\n" +
        "Exit code: 0; 1 a guard let through what it is to prevent, or wrong bytes were seen; 2 a race has no result; " +
        "3 nothing ran; 64 usage.",
    )
    .option("--rounds <N>", "rounds of each race (default: 10000; of a Linux guest 300)")
    .option("--guard <G...>", "only these (fuse-lease, kernel-lease, pre-content, notify, sealed, none)")
    .addOption(new Option("--guest <G>", "what is raced").choices(["micro", "linux"]).default("micro"))
    .option("--way <W...>", "of a Linux guest: only these ways of truncating (ids or patterns)")
    .option("-k, --kernel <SPEC>", "of a Linux guest: boots this kernel in a VM and races there (as of run)")
    .option("--guest-kernel <SPEC>", "the Linux guest's kernel (debian:6.12 if it is left out)")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { benchGuardsCommand } = await import("./bench-guards.ts");
      process.exitCode = await benchGuardsCommand(options);
    });
}

function addGuards(program: Command): void {
  program
    .command("guards")
    .summary("every guard against every way of making a file shorter, measured and held against the model")
    .description(
      "Truncates a file that a guest touches in every way there is, with each guard armed, and says whether the guard " +
        "prevented it, was late, or missed it. Guards: lease-fuse, lease-kernel, pre-content, notify, sealed; apf-loop is " +
        "no guard at all. Needs /dev/kvm and root.\n\n" +
        "Exit code: 0 every cell is allowed by the model; 1 one is not; 2 a cell has no result; 64 usage.",
    )
    .option("--guard <G...>", "only these (ids or patterns)")
    .option("--proposals <FILE>", "also the guards of this file or folder", collect)
    .option("--way <W...>", "only these ways of truncating (ids or patterns)")
    .option("--jobs <N>", "cases at a time", "2")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { guardsCommand } = await import("./guards.ts");
      process.exitCode = await guardsCommand(options);
    });
}

/** Of a server that a VMM connects to: virtiofsd's names. */
function addVhostOptions(serve: Command): Command {
  return serve
    .option("--socket-path <PATH>", "serve the VMM that connects here (vhost-user): virtiofsd's options")
    .option("--fd <FD>", "the same by a listening socket that is open already")
    .option("--tag <NAME>", "name of the file system, where the VMM has none of its own (--socket-path)")
    .option(
      "--dax-window <SIZE>",
      "offer a DAX window, e.g. 512M: QEMU's vhost-user-test-device-pci (--socket-path)",
    )
    .option("--thread-pool-size <N>", "most threads that serve at once; 0: one (--socket-path)")
    .option(
      "--num-request-queues <N>",
      "request queues, where the VMM has no number of its own (--socket-path)",
    )
    .option("--reconnect", "wait for the next VMM when one has left (--socket-path)")
    .option("--sandbox <KIND>", "none; others are refused (--socket-path)");
}

function addDiagnose(program: Command): void {
  program
    .command("diagnose")
    .summary("what a VM on this machine does that runs or hangs: why, because of which file, what ends it")
    .description(
      "Looks at VMs of any VMM on KVM from outside for half a second, without the VMM's help, and says of each whether it " +
        "runs, is halted, waits for I/O, or loops, and because of which file; what ends that, and at which price. Changes " +
        "nothing. Without root it says what it could not see. docs/vm-hangs.md has the whole story.\n\n" +
        "Exit code: 0 all are healthy; 1 one does not go on by itself; 2 of one, or whether there is one, it cannot be said; 3 there is no VM; 64 usage, or the VM that was named is none.",
    )
    .option("--pid <PID>", "only the VM of this process")
    .option("--name <GUEST>", "only the VM of this name (QEMU's -name, --name, --id)")
    .option(
      "--log <FILE>",
      "look at no VM: find the failures of KVM_RUN in the log of a VMM; - is standard input",
    )
    .option("--mail <FILE>", "as a report for a mailing list; - is standard output")
    .option(
      "--record <FILE>",
      "everything that was read, for somebody else to look at: the names of open files of other processes, too",
    )
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { diagnoseCommand } = await import("./diagnose.ts");
      process.exitCode = await diagnoseCommand(options, await style());
    });
}

function addProtect(program: Command): void {
  program
    .command("protect")
    .summary("while it runs, no file that a VM has mapped gets shorter")
    .description(
      "Refuses, with ETXTBSY, every truncation that cuts into what the VMs have mapped, by whoever tries, and says who did; " +
        "all else passes. By permission events of the kernel (Linux 6.14; ext4, xfs, btrfs; root). Of each file it says " +
        "whether that can be had, and what there is instead. Stopped or killed, it holds nobody up: after five seconds at " +
        "most what waits for it goes on. docs/vm-hangs.md has the whole story.\n\n" +
        "Exit code: 0 ended by Ctrl-C or SIGTERM, or the processes have ended; 2 it could not go on; 3 not root, or there never was anything that it could protect; 64 usage.",
    )
    .option("--pid <PID...>", "the files of these processes: VMMs, or any that have mapped files")
    .option(
      "--dir <DIR>",
      "the files in this folder and below, from the moment on that a VM maps them: of every VM, or of those of --pid",
    )
    .option(
      "--allow <PID...>",
      "what these processes do passes: a file server that truncates for the guest itself",
    )
    .option("--seal", "memory of VMs (memfd) is sealed against getting shorter, for good")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { protectCommand } = await import("./protect.ts");
      process.exitCode = await protectCommand(options);
    });
}

function addRescue(program: Command): void {
  program
    .command("rescue")
    .summary("ends a VM's hang: says what can be done and at which price, and does what is named")
    .description(
      "Looks as diagnose does, and says what would end the hang. Does nothing, unless what is to be done is named; then it says " +
        "what it does, does it, and looks whether the VM goes on. docs/vm-hangs.md has the whole story.\n\n" +
        "Exit code: 0 the VM goes on, or was healthy, or has ended as asked; 1 it hangs still, or nothing was to be done; " +
        "2 it cannot be said; 3 there is no VM; 64 usage.",
    )
    .option("--pid <PID>", "the VM of this process")
    .option("--name <GUEST>", "the VM of this name (as of diagnose)")
    .option(
      "--accept-zeros",
      "grow what is too short: the guest reads zeros where its data was, and is not told",
    )
    .option("--continue", "let the stopped VMM, or its stopped file server, go on (SIGCONT)")
    .option("--stop", "end the VM in order: QEMU's monitor, where there is one, else SIGTERM")
    .option("--dry-run", "say what that would do, and do nothing")
    .option("--json <FILE>", JSON_HELP)
    .action(async (options) => {
      const { rescueCommand } = await import("./rescue.ts");
      process.exitCode = await rescueCommand(options, await style());
    });
}

function addServe(program: Command): void {
  const serve = program
    .command("serve")
    .summary("the passthrough file server alone")
    .description(
      "Mounts SOURCE at MOUNTPOINT, an empty directory, until Ctrl-C or SIGTERM; then unmounts. " +
        "With --socket-path it serves a VMM instead, as virtiofsd does (docs/virtiofsd.md). " +
        "Prints one JSON line when it is mounted, or a VMM can connect.",
    )
    .argument("<SOURCE>", "directory to serve")
    .argument("[MOUNTPOINT]", "where to mount it")
    .addOption(new Option("--transport <T>", "how the mount is made (default: devfuse)").choices(transports))
    .option("--read-only", "refuse every change")
    .option("--debug", "one line per request and reply on standard error")
    .option(
      "--background",
      "return when it is mounted; ended by SIGTERM or by unmounting; messages go nowhere then, except with --debug",
    )
    .option("--writeback", "the kernel caches writes and owns file sizes (devfuse)")
    .option("--passthrough", "the kernel reads and writes the files itself (devfuse, root)")
    .option(
      "--io-uring",
      "serve by queues of io_uring, one a CPU (devfuse; Linux 6.14, where fuse has it on)",
    )
    .option(
      "--announce-submounts",
      "cross mount points inside SOURCE; kernels that take it see a file system of its own at each (default: EXDEV)",
    )
    .addOption(
      new Option(
        "--inode-file-handles <USE>",
        "name inodes by file handles, not by open descriptors",
      ).choices(fileHandlesUses),
    )
    .addOption(
      new Option("--cache <WHAT>", "what the kernel keeps: names and attributes, pages (devfuse)").choices(
        cacheModes,
      ),
    )
    .option("--allow-direct-io", "O_DIRECT reaches the files of SOURCE (devfuse)")
    .option(
      "--translate-uid <RULE...>",
      "map:CLIENT:HOST:COUNT, guest, host, squash-guest, squash-host, forbid-guest",
    )
    .option("--translate-gid <RULE...>", "the same for groups")
    .option("--posix-lock", "POSIX locks are set on SOURCE, seen by all who lock there (devfuse)")
    .option("--no-posix-lock", "they are those of the kernel's own processes (default)")
    .option("--flock", "as --posix-lock, for flock(2) (devfuse)")
    .option("--no-flock", "as --no-posix-lock, for flock(2) (default)")
    .option("--posix-acl", "the kernel enforces POSIX ACLs (default: where the source has them; devfuse)")
    .option("--no-posix-acl", "ACLs are shown, not enforced (devfuse)")
    .addOption(
      new Option(
        "--guard <G>",
        "fuse-lease: who has leases is asked before a file gets shorter; notify, pre-content: this mount drops what others change; all five: files in a --dax-window",
      ).choices(windowGuards),
    )
    .option("--lease-socket <PATH>", "where clients that map files hold leases (--guard fuse-lease)");
  addVhostOptions(serve).action(async (source: string, mountpoint: string | undefined, options) => {
    const { serveCommand } = await import("./serve.ts");
    process.exitCode = await serveCommand(source, mountpoint, options);
  });
}

/** What the program says of its own command line. */
function addOwn(program: Command): void {
  program
    .command("completion")
    .summary("a script that completes commands, options and ids in a shell")
    .description("Prints the script; it is made anew after an update, for the ids of scenarios are in it.")
    .addArgument(new Argument("<SHELL>", "whose script").choices(["bash", "zsh"]))
    .action(async (shell: "bash" | "zsh") => {
      const { completionCommand } = await import("./completion.ts");
      process.exitCode = completionCommand(program, shell);
    });
  program
    .command("manual")
    .summary("the manual page, for man")
    .description("Prints the manual page in the macros of man(7).")
    .action(async () => {
      const { manualCommand } = await import("./manual.ts");
      process.exitCode = manualCommand(program);
    });
}

export function makeProgram(): Command {
  const program = new Command("daxfault")
    .description(
      "What happens to a guest when the host truncates a file that is mapped into guest memory (virtio-fs DAX, NVDIMM).",
    )
    .version(version())
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(messageText(text.replace(/^error:/, "daxfault:"))),
    })
    .showHelpAfterError("(daxfault --help: all commands)");
  addRun(program);
  addRepro(program);
  addModel(program);
  addDiagnose(program);
  addProtect(program);
  addRescue(program);
  addServe(program);
  addGuards(program);
  addBench(program);
  addOthers(program);
  addOwn(program);
  addHelp(program);
  return program;
}

/** The text with each of the words on one line: names of files may have line ends, and a message's lines are ours. */
function withWordsInLine(text: string, words: readonly string[]): string {
  const values = words.flatMap((word) => [word, word.slice(word.indexOf("=") + 1)]);
  const broken = values.filter((value) => value.includes("\n"));
  return broken.reduce(
    (result, value) => result.replaceAll(value, () => value.replaceAll("\n", "\\n")),
    text,
  );
}

/** A message on stderr; a line that continues it is indented, so that it cannot pass for another message. */
function printError(text: string): void {
  console.error(`daxfault: ${messageText(text).replaceAll("\n", "\n  ")}`);
}

/** Turns whatever a command threw into a message and an exit code. Outputs of a command that did not run are none. */
function exitCodeOfError(error: unknown, argv: readonly string[]): number {
  if (error instanceof CommanderError || error instanceof UsageError) discardOutputs();
  // commander has printed its own message; help and version come here with code 0.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  if (error instanceof UsageError) {
    printError(withWordsInLine(error.message, argv));
    return exitCodes.usage;
  }
  const surroundings = error instanceof OutputError ? error.message : surroundingsText(error);
  if (surroundings !== null) {
    printError(withWordsInLine(surroundings, argv));
    return exitCodes.usage;
  }
  if (error instanceof LostChildError) {
    printError(error.message);
    return exitCodes.inconclusive;
  }
  printError(`this is a defect of daxfault: ${errorStack(error)}`);
  console.error(REPORT_LINE);
  return exitCodes.defect;
}

/** Standard output could not be written, for another reason than a reader that has gone. */
let stdoutError: NodeJS.ErrnoException | null = null;

/**
 * `daxfault run | head -1`: a reader that has had enough is no error, and no end: the run goes on, its files are written,
 * and its exit code stands.
 */
function onStdoutError(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_DESTROYED") stdoutError ??= error;
}

/** A write that fails is reported in a later turn of the loop. */
function beforeExit(): void {
  if (stdoutError === null) return;
  printError(`standard output: ${errorText(stdoutError)}`);
  // A terminal that has gone cannot be written to, either: that the command was interrupted says more.
  if (signalOfExitCode(Number(process.exitCode ?? 0)) === null) process.exitCode = exitCodes.usage;
  stdoutError = null;
}

/** Listens to this process's streams and its end: once, however many command lines are carried out. */
export function listenToProcess(): void {
  process.stdout.on("error", onStdoutError);
  process.on("beforeExit", beforeExit);
}

/** Carries out one command line, `process.argv`'s by default; process.exitCode is its result. */
export async function commandLine(argv: readonly string[] = process.argv): Promise<void> {
  try {
    await makeProgram().parseAsync(argv);
    commitOutputs();
  } catch (error) {
    process.exitCode = exitCodeOfError(error, argv);
  }
}
