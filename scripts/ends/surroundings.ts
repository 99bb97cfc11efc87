/**
 * Every command in surroundings that lack or refuse something: temporary folders, limits, PATH, namespaces, devices, full
 * disks. Each trial is a shell script in a mount namespace of its own, so that nothing of the machine changes; it needs root.
 * A finding is an end that README's table of exit codes does not allow, a stack, a hang, or a message that does not name
 * what is wrong. Other ends (signals, children, standard streams) are not looked at here.
 *
 * `node dist/scripts/ends/surroundings.js [short] [PATTERN]`; PATTERN is a regular expression for "surrounding: command".
 */
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { constants as osConstants, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { each, type Finding } from "./finding.ts";

/** A command of daxfault and how it ends where nothing is lacking. */
export type Command = {
  readonly name: string;
  /** Shell words after `daxfault`; the working directory is the trial's own. */
  readonly words: string;
  /** Exit code where nothing is lacking. */
  readonly code: number;
  /** What it takes there, on a busy machine. */
  readonly seconds: number;
  /** It makes folders in TMPDIR. */
  readonly usesFolder: boolean;
  /** Of it alone: docs/fs-server.md. */
  readonly refusal?: number;
  /** Takes long: only where it is refused at once. */
  readonly isRare?: boolean;
};

export type Surrounding = {
  readonly name: string;
  /** Shell lines before the command. */
  readonly setup: string;
  /** Shell words before the command: `setpriv ...`. */
  readonly prefix?: string;
  /**
   * `harmless`: the command ends as ever. `harmful`: as ever, or it is refused. `fatal`: a command that `uses` it is
   * refused; others end as ever.
   */
  readonly kind: "harmless" | "harmful" | "fatal";
  /** The commands that a fatal one keeps from their work. */
  readonly uses?: (command: Command) => boolean;
  /** What the message of a refusal names. */
  readonly says?: RegExp;
  /** After the command's own words. */
  readonly more?: (command: Command) => string;
  /** Only these commands. */
  readonly only?: (command: Command) => boolean;
  /** In the short form as well. */
  readonly short?: boolean | undefined;
};

/** How one trial ended. `code` null: it was ended after its bound; above 128: a signal, as shells have it. */
export type End = { readonly code: number | null; readonly text: string; readonly seconds: number };

const HANG_SECONDS = 5;
const TOO_LONG = "it took";
/** What the record takes on an idle machine with two CPUs. */
const RECORD_SECONDS = 4;
const TAIL_LINES = 25;
const TRIAL_BOUND_MS = 120_000;
/** Of a command in the short form. */
const SHORT_SECONDS = 4;
/** Refused: wrong command line, or nothing ran; some cases of a run may prove nothing. */
const REFUSALS: readonly number[] = [64, 3, 2];
const STACK = /^\s+at .*[(/].*:\d+:\d+\)?$/m;

export type Trial = { readonly surrounding: Surrounding; readonly command: Command };

/**
 * What is wrong with an end; null: nothing.
 * @param slowness of this machine now: a trial may take so many times as long
 */
export function judgeEnd({ surrounding, command }: Trial, end: End, slowness: number = 1): string | null {
  const { code, text, seconds } = end;
  if (code === null) return "it does not end";
  if (code === 70) return "exit 70: a surrounding is no defect of daxfault";
  if (code > 128) return `killed by signal ${code - 128}`;
  if (STACK.test(text)) return "a stack";
  if (seconds > (command.seconds + HANG_SECONDS) * slowness)
    return `${TOO_LONG} ${seconds.toFixed(1)} s of ${command.seconds} s`;
  const isAsEver = code === command.code;
  if (surrounding.kind === "harmless") return isAsEver ? null : `exit ${code} instead of ${command.code}`;
  if (isAsEver) {
    const isUsed = surrounding.kind === "fatal" && (surrounding.uses?.(command) ?? true);
    return isUsed ? `exit ${code}, although what was asked for cannot have been done` : null;
  }
  if (!REFUSALS.includes(code) && code !== command.refusal) return `exit ${code} is in no row of the table`;
  if (surrounding.says?.test(text) === true) return null;
  return `exit ${code} without a message that says ${surrounding.says}`;
}

const root = fileURLToPath(new URL("../../../", import.meta.url));
const main = join(root, "dist/harness/src/cli/bin.js");

const quiet = { usesFolder: false, seconds: 4, code: 0 } as const;
const busy = { usesFolder: true, seconds: 12, code: 0 } as const;

/** `record.jsonl`, `src` and `mnt` are in the folder of every trial. */
export const commands: readonly Command[] = [
  { ...quiet, name: "help", words: "--help" },
  { ...quiet, name: "list", words: "list scenarios" },
  { ...quiet, name: "new", words: "new scenario mine.json" },
  { ...quiet, name: "explore", words: "explore apf-loop -s load-after-truncate" },
  { ...quiet, name: "report", words: "report record.jsonl" },
  { ...quiet, name: "compare", words: "compare record.jsonl" },
  { ...quiet, name: "doctor", words: "doctor", seconds: 12 },
  { ...busy, name: "model", words: "run load-after-truncate -p apf-loop -e model" },
  {
    ...busy,
    name: "run",
    words: "run load-after-truncate load-after-truncate-by-mount -p native -e process",
  },
  { ...busy, name: "repro", words: "repro load-after-truncate -p native -e process --out bundle" },
  { ...busy, name: "live", words: "compare --engines model,process", seconds: 120, isRare: true },
  { ...quiet, name: "serve", refusal: 1, words: 'serve --background "$PWD/src" "$PWD/mnt"' },
  {
    ...busy,
    name: "bench",
    words: 'bench fs --repetitions 1 --placement together --folder "$FOLDER"',
    seconds: 90,
    isRare: true,
  },
];

const named =
  (...names: readonly string[]) =>
  ({ name }: Command): boolean =>
    names.includes(name);
const usesFolder = (command: Command): boolean => command.usesFolder;

const TMPDIR_SAYS = /temporary (folder|files) .*(Next|do|TMPDIR)|--folder/s;

/** A temporary folder that cannot be used: what makes it, and its name in shell. */
function badFolder(name: string, setup: string, more: Partial<Surrounding> = {}): Surrounding {
  return {
    name: `TMPDIR ${name}`,
    setup: `${setup}\nexport TMPDIR FOLDER="$TMPDIR"`,
    kind: "fatal",
    uses: usesFolder,
    says: TMPDIR_SAYS,
    ...more,
  };
}

function goodFolder(name: string, quoted: string, more: Partial<Surrounding> = {}): Surrounding {
  const setup = `T="$PWD"/${quoted}\nmkdir -p -- "$T"\nexport TMPDIR="$T"`;
  return { name: `TMPDIR ${name}`, setup, kind: "harmless", ...more };
}

const tmpfs = (options: string): string => `mkdir t\nmount -t tmpfs -o ${options} none t\nTMPDIR="$PWD/t"`;

const folders: readonly Surrounding[] = [
  badFolder("missing", 'TMPDIR="$PWD/none"', { short: true }),
  badFolder("missing, by a relative path", 'TMPDIR="none"'),
  badFolder("a file", 'TMPDIR="$PWD/record.jsonl"'),
  badFolder("read-only", 'mkdir t\nmount --bind t t\nmount -o remount,ro,bind t\nTMPDIR="$PWD/t"', {
    short: true,
  }),
  badFolder("full", `${tmpfs("size=64k")}\nhead -c 1M /dev/zero >t/full 2>&- || true`, {
    kind: "harmful",
    short: true,
  }),
  badFolder("of one page", tmpfs("size=4k"), { kind: "harmful" }),
  badFolder("of 20 pages", tmpfs("size=80k"), { kind: "harmful" }),
  badFolder("of 1 MiB", tmpfs("size=1m"), { kind: "harmful" }),
  badFolder("without inodes", tmpfs("nr_inodes=1"), { short: true }),
  badFolder("of 3 inodes", tmpfs("nr_inodes=3"), { kind: "harmful" }),
  badFolder("of 6 inodes", tmpfs("nr_inodes=6"), { kind: "harmful" }),
  badFolder(
    "filled meanwhile",
    `${tmpfs("size=8m")}\n(sleep 1.2; head -c 16M /dev/zero >"$TMPDIR/full") 2>&- &`,
    { kind: "harmful" },
  ),
  badFolder("removed meanwhile", 'mkdir t\nTMPDIR="$PWD/t"\n(sleep 1.5; rm -rf t) >/dev/null 2>&1 &', {
    kind: "harmful",
    says: /temporary folder|run folder|no such file|ENOENT/s,
  }),
  goodFolder("3,000 bytes long", "\"$(for i in $(seq 15); do printf '%0199d/' 0; done)\"", {
    kind: "harmful",
    says: TMPDIR_SAYS,
    short: true,
  }),
  goodFolder("4,000 bytes long", "\"$(for i in $(seq 20); do printf '%0190d/' 0; done)\"", {
    kind: "harmful",
    says: TMPDIR_SAYS,
  }),
  goodFolder("150 bytes long", "\"$(printf '%0150d' 0)\""),
  goodFolder("in bytes that are no UTF-8", "$'\\xff\\xfe'", {
    kind: "fatal",
    uses: usesFolder,
    says: TMPDIR_SAYS,
    short: true,
  }),
  goodFolder("in latin1", "$'gr\\xfcn'", { kind: "fatal", uses: usesFolder, says: TMPDIR_SAYS }),
  goodFolder("in UTF-8", "$'gr\\u00fcn \\u4e2d'", { short: true }),
  goodFolder("with blanks", "'a b  c'"),
  goodFolder("with a newline", "$'a\\nb'", { short: true }),
  goodFolder("with a tab and a backslash", "$'a\\tb\\\\c\\\\040'"),
  goodFolder("with quotes", '"a\'b\\"c\\`d\\$e"'),
  goodFolder("with a comma and a colon", "'a,b:c=d'"),
  goodFolder("with a leading dash", "-rf"),
  goodFolder("with a hash and a percent", "'#a%41?x'"),
  {
    name: "TMPDIR a link",
    setup: 'mkdir t\nln -s t l\nexport TMPDIR="$PWD/l"',
    kind: "harmless",
  },
  { name: "TMPDIR relative", setup: "mkdir t\nexport TMPDIR=t", kind: "harmless" },
  { name: "TMPDIR empty", setup: "export TMPDIR=", kind: "harmless" },
  { name: "TMPDIR /", setup: "export TMPDIR=/", kind: "harmless" },
  {
    name: "TMPDIR on tmpfs",
    setup: `${tmpfs("size=64m")}\nexport TMPDIR`,
    kind: "harmless",
  },
  {
    name: "TMPDIR on overlayfs",
    setup: [
      "mkdir o\nmount -t tmpfs none o\nmkdir o/lower o/upper o/work o/all",
      'mount -t overlay overlay -o "lowerdir=$PWD/o/lower,upperdir=$PWD/o/upper,workdir=$PWD/o/work" o/all',
      'export TMPDIR="$PWD/o/all"',
    ].join("\n"),
    kind: "harmless",
  },
];

const LIMIT_SAYS = /(ulimit|RLIMIT|limit).*(Next|do):|(Next|do):.*(ulimit|limit)/s;

function limit(option: string, value: string, more: Partial<Surrounding> = {}): Surrounding {
  return {
    name: `ulimit -${option} ${value}`,
    setup: `ulimit -${option} ${value}`,
    kind: "harmful",
    says: LIMIT_SAYS,
    ...more,
  };
}

const limits: readonly Surrounding[] = [
  ...[24, 32, 40, 48, 64, 96, 128, 256].map((value) =>
    limit("n", String(value), { short: value === 32 || value === 64 }),
  ),
  limit("u", "30", { prefix: "setpriv --reuid 54321 --clear-groups", says: /process|thread|ulimit/ }),
  limit("f", "0", { says: /larger|File too large|ulimit -f|EFBIG/ }),
  limit("f", "8", { says: /larger|File too large|ulimit -f|EFBIG/ }),
  limit("s", "256"),
  limit("s", "unlimited", { kind: "harmless" }),
  limit("l", "0", { kind: "harmless" }),
  limit("c", "0", { kind: "harmless" }),
  limit("c", "unlimited", { kind: "harmless" }),
  limit("t", "60", { kind: "harmless" }),
];

const asNobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
const openUp = "chmod 777 . src mnt";
const MACHINE_SAYS = /(\/proc|\/dev\/fuse|\/sys|root|fusermount|namespace)/;

const DEV_WITHOUT_FUSE = [
  "mkdir d",
  "mount -t tmpfs none d",
  "cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom d",
  "mkdir d/shm",
  "mount --bind d /dev",
].join("\n");

const machine: readonly Surrounding[] = [
  { name: "PATH unset", setup: "unset PATH", kind: "harmless", short: true },
  { name: "PATH empty", setup: "export PATH=", kind: "harmless" },
  { name: "PATH of nothing", setup: "export PATH=/none", kind: "harmless" },
  {
    name: "PATH without fusermount, as nobody",
    setup: `${openUp}\nexport PATH=/none`,
    prefix: `/usr/bin/${asNobody}`,
    kind: "harmful",
    says: /fuse|root/,
  },
  { name: "HOME unset", setup: "unset HOME", kind: "harmless" },
  { name: "HOME not writable", setup: "export HOME=/proc", kind: "harmless" },
  { name: "no environment", setup: "", prefix: "/usr/bin/env -i", kind: "harmless" },
  {
    name: "cwd not writable",
    setup: "mkdir w\nmount --bind w w\ncp -r record.jsonl src mnt w\nmount -o remount,ro,bind w\ncd w",
    kind: "fatal",
    uses: named("new", "repro"),
    says: /EROFS|read-only|may not be written/,
  },
  {
    name: "cwd gone",
    setup: "mkdir w\ncd w\nrmdir ../w",
    kind: "harmful",
    only: named("help", "list", "new", "report", "model", "run", "repro"),
    says: /working directory.*(Next|do):|no such file|ENOENT/s,
    short: true,
  },
  {
    name: "a PID namespace with the old /proc",
    setup: "",
    prefix: "unshare -fp",
    kind: "harmful",
    says: /\/proc.*(Next|do):/s,
    short: true,
  },
  { name: "a PID namespace", setup: "", prefix: "unshare -fp --mount-proc", kind: "harmless" },
  { name: "an IPC and a network namespace", setup: "", prefix: "unshare -in", kind: "harmless" },
  {
    name: "a user namespace as root",
    setup: openUp,
    prefix: "unshare -Ur",
    kind: "harmful",
    says: MACHINE_SAYS,
  },
  { name: "nobody", setup: openUp, prefix: asNobody, kind: "harmful", says: MACHINE_SAYS, short: true },
  {
    name: "nobody, in a folder of root's",
    setup: "",
    prefix: asNobody,
    kind: "harmful",
    says: /EACCES|permission|may not|root|fuse/,
  },
  {
    name: "a user namespace without root",
    setup: openUp,
    prefix: "unshare -U",
    kind: "harmful",
    says: MACHINE_SAYS,
  },
  {
    name: "no capabilities",
    setup: "",
    prefix: "setpriv --bounding-set -all --inh-caps -all",
    kind: "harmful",
    says: /EPERM|EACCES|permission|may not|root|fuse/,
  },
  {
    name: "no /dev/fuse",
    setup: DEV_WITHOUT_FUSE,
    kind: "harmful",
    says: /\/dev\/fuse/,
    short: true,
  },
  {
    name: "/dev/fuse of others",
    setup: `${openUp}\ncp -a /dev/fuse f && chmod 0 f && mount --bind f /dev/fuse`,
    prefix: asNobody,
    kind: "harmful",
    says: /\/dev\/fuse/,
  },
  {
    name: "no /proc",
    setup: "mkdir p\nmount --bind p /proc",
    kind: "harmful",
    says: /\/proc.*(Next|do):/s,
    short: true,
  },
  {
    name: "/proc with hidepid=2, as nobody",
    setup: `${openUp}\nmount -t proc -o hidepid=2 proc /proc || true`,
    prefix: asNobody,
    kind: "harmful",
    says: MACHINE_SAYS,
  },
  { name: "no /sys", setup: "mkdir p\nmount --bind p /sys", kind: "harmless" },
  { name: "no tracefs", setup: "mkdir p\nmount --bind p /sys/kernel", kind: "harmless" },
  { name: "no /etc", setup: "mkdir p\nmount --bind p /etc", kind: "harmless" },
  { name: "/etc/mtab gone, /run empty", setup: "mkdir p\nmount --bind p /run", kind: "harmless" },
  { name: "LC_ALL=C", setup: "export LC_ALL=C LANG=C", kind: "harmless" },
  { name: "LC_ALL=POSIX", setup: "export LC_ALL=POSIX", kind: "harmless" },
  { name: "LC_ALL unknown", setup: "export LC_ALL=xx_YY.EBCDIC", kind: "harmless" },
  { name: "TERM=dumb", setup: "export TERM=dumb", kind: "harmless" },
  { name: "NO_COLOR", setup: "export NO_COLOR=1", kind: "harmless" },
  { name: "FORCE_COLOR", setup: "export FORCE_COLOR=3 COLUMNS=1", kind: "harmless" },
  { name: "COLUMNS=x", setup: "export COLUMNS=x", kind: "harmless" },
  { name: "TZ unknown", setup: "export TZ=Mars/Olympus", kind: "harmless" },
  { name: "umask 777", setup: "umask 777", kind: "harmless", prefix: "" },
  { name: "umask 0", setup: "umask 0", kind: "harmless" },
];

/** Options that name a file for output, by command. */
const outputs: Readonly<Record<string, readonly string[]>> = {
  list: ["--json"],
  doctor: ["--json"],
  explore: ["--json"],
  compare: ["--json"],
  report: ["--json", "--junit", "--html", "--markdown", "--ktap"],
  model: ["--json", "--junit", "--html", "--markdown", "--ktap"],
  run: ["--json", "--html"],
};

const OUTPUT_PLACES: readonly {
  readonly name: string;
  readonly setup: string;
  readonly file: string;
  readonly says: RegExp;
}[] = [
  { name: "/dev/full", setup: "", file: "/dev/full", says: /\/dev\/full.*(no space left|full)/s },
  {
    name: "a full disk",
    setup: "mkdir d\nmount -t tmpfs -o size=4k none d\nhead -c 64k /dev/zero >d/full 2>&- || true",
    file: "d/out",
    says: /d\/out.*(no space left|full)/s,
  },
  {
    name: "a disk without inodes",
    setup: "mkdir d\nmount -t tmpfs -o nr_inodes=1 none d",
    file: "d/out",
    says: /d\/out.*(no space left|full)/s,
  },
  {
    name: "a read-only folder",
    setup: "mkdir d\nmount --bind d d\nmount -o remount,ro,bind d",
    file: "d/out",
    says: /d\/out.*read-only/s,
  },
  { name: "a missing folder", setup: "", file: "none/out", says: /none\/out.*no such/s },
];

function outputSurroundings(): readonly Surrounding[] {
  const result: Surrounding[] = [];
  for (const { name, setup, file, says } of OUTPUT_PLACES) {
    for (const option of ["--json", "--junit", "--html", "--markdown", "--ktap"]) {
      result.push({
        name: `${option} on ${name}`,
        setup,
        kind: "fatal",
        says,
        more: () => `${option} ${file}`,
        only: (command) => (outputs[command.name] ?? []).includes(option),
        short: option === "--json" && file === "/dev/full",
      });
    }
    result.push({
      name: `--out on ${name}`,
      setup:
        file === "/dev/full" ? "ln -s /dev/full bundle" : `${setup}\nmkdir -p d none\nln -s ${file} bundle`,
      kind: "harmful",
      says: /bundle/,
      only: named("repro"),
    });
  }
  return result;
}

const prints = (command: Command): boolean => command.name !== "new";

const streams: readonly Surrounding[] = [
  {
    name: "stdout on /dev/full",
    setup: "",
    kind: "fatal",
    uses: prints,
    more: () => ">/dev/full",
    says: /standard output.*(no space|ENOSPC|full)/s,
    short: true,
  },
  { name: "stderr on /dev/full", setup: "", kind: "harmless", more: () => "2>/dev/full" },
  {
    name: "both on /dev/full",
    setup: "",
    kind: "fatal",
    uses: prints,
    more: () => ">/dev/full 2>&1",
    says: /^/,
  },
];

export const surroundings: readonly Surrounding[] = [
  ...folders,
  ...limits,
  ...machine,
  ...outputSurroundings(),
  ...streams,
];

const inShort = named("report", "run", "serve");
const inMost = named("report", "doctor", "model", "run", "repro", "serve");

/** Whether the trial is worth its time: most commands live in the same way. */
function isTried(surrounding: Surrounding, command: Command, isShort: boolean): boolean {
  const { only, short, kind, uses } = surrounding;
  if (only !== undefined) return only(command) && (!isShort || command.seconds <= SHORT_SECONDS);
  if (isShort) return inShort(command);
  if (command.isRare === true) return kind === "fatal" && uses?.(command) === true;
  return short === true || inMost(command);
}

/** The shell script of a trial, in its folder. */
export function scriptOf(surrounding: Surrounding, command: Command): string {
  const { setup, prefix = "", more } = surrounding;
  const words = [prefix, '"$NODE" "$MAIN"', command.words, more?.(command) ?? ""].filter((one) => one !== "");
  return ["set -e", setup, `exec ${words.join(" ")}`].join("\n");
}

const TRIAL_TAG = "DAXFAULT_TRIAL";
const OWNER_TAG = "DAXFAULT_TRIALS_OF";
const LEFT_BOUND_MS = 5000;
const POLL_MS = 50;

/** The processes of a trial; null: of all trials of this process. */
function processesOf(folder: string | null): readonly number[] {
  const tag = folder === null ? `${OWNER_TAG}=${process.pid}` : `${TRIAL_TAG}=${folder}`;
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(tag);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Waits for the end of what the trial has started, and ends the rest. Returns what was left. */
async function endOfAll(folder: string, isServer: boolean): Promise<readonly string[]> {
  const deadlineMs = performance.now() + (isServer ? 0 : LEFT_BOUND_MS);
  let left = processesOf(folder);
  while (left.length > 0 && performance.now() < deadlineMs) {
    await sleep(POLL_MS);
    left = processesOf(folder);
  }
  for (const pid of left) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Ended meanwhile.
    }
  }
  return isServer ? [] : left.map((pid) => `process ${pid}`);
}

/** Names are bytes: Node could not go through all of them. */
function foldersIn(folder: string): readonly string[] {
  const found = execFileSync("find", [folder, "-name", "daxfault-*", "-not", "-name", "daxfault-repro*"]);
  const paths = found.toString("latin1").split("\n");
  return paths.filter((path) => path !== "").map((path) => `the folder ${path.slice(folder.length + 1)}`);
}

function remove(folder: string): void {
  execFileSync("rm", ["-rf", "--", folder]);
}

function prepare(folder: string, record: string): void {
  mkdirSync(join(folder, "src"));
  mkdirSync(join(folder, "mnt"));
  cpSync(record, join(folder, "record.jsonl"));
  chmodSync(folder, 0o755);
}

function runScript(script: string, folder: string): Promise<End> {
  const startMs = performance.now();
  const trial = spawn("unshare", ["-m", "--propagation", "private", "bash", "-c", script], {
    cwd: folder,
    env: {
      ...process.env,
      NODE: process.execPath,
      MAIN: main,
      FOLDER: "/dev/shm",
      [TRIAL_TAG]: folder,
      [OWNER_TAG]: String(process.pid),
    },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let text = "";
  for (const stream of [trial.stdout, trial.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString("utf8");
    });
  }
  return new Promise((resolve) => {
    let isOver = false;
    const bound = setTimeout(() => {
      isOver = true;
      if (trial.pid !== undefined) process.kill(-trial.pid, "SIGKILL");
    }, TRIAL_BOUND_MS);
    trial.on("exit", (code, signal) => {
      clearTimeout(bound);
      const seconds = (performance.now() - startMs) / 1000;
      const ended = code ?? 128 + (signal === null ? 0 : osConstants.signals[signal]);
      // What is still in the pipes; a server in the background keeps them open.
      setTimeout(() => resolve({ code: isOver ? null : ended, text, seconds }), POLL_MS);
    });
  });
}

type TrialResult = { readonly end: End; readonly problem: string | null };

/** A busy machine is slow now and then, a hang comes again. */
async function runTwice(trial: Trial, baseline: Baseline): Promise<TrialResult> {
  const first = await runTrial(trial, baseline);
  return first.problem?.startsWith(TOO_LONG) === true ? await runTrial(trial, baseline) : first;
}

async function runTrial({ surrounding, command }: Trial, { path, slowness }: Baseline): Promise<TrialResult> {
  const folder = mkdtempSync(join(tmpdir(), "ends-"));
  try {
    prepare(folder, path);
    const end = await runScript(scriptOf(surrounding, command), folder);
    const left = [...(await endOfAll(folder, command.name === "serve")), ...foldersIn(folder)];
    const isLeft = left.length > 0 ? `left behind: ${left.join(", ")}` : null;
    return { end, problem: judgeEnd({ surrounding, command }, end, slowness) ?? isLeft };
  } finally {
    remove(folder);
  }
}

type Baseline = {
  /** A recorded run. */
  readonly path: string;
  readonly slowness: number;
};

/** A record for `report` and `compare`. */
async function makeRecord(folder: string): Promise<Baseline> {
  const path = join(folder, "record.jsonl");
  const words = `run load-after-truncate -p native -e process --json ${path}`;
  const end = await runScript(`exec "$NODE" "$MAIN" ${words}`, folder);
  if (end.code !== 0) throw new Error(`daxfault ${words} ends with ${end.code}:\n${end.text}`);
  return { path, slowness: Math.max(1, end.seconds / RECORD_SECONDS) };
}

const titleOf = ({ surrounding, command }: Trial): string => `${surrounding.name}: ${command.name}`;

export function trialsOf(isShort: boolean, pattern: string | null): readonly Trial[] {
  return surroundings
    .filter(({ short }) => !isShort || short === true)
    .flatMap((surrounding) =>
      commands
        .filter((command) => isTried(surrounding, command, isShort))
        .map((command) => ({ surrounding, command })),
    )
    .filter((trial) => pattern === null || new RegExp(pattern).test(titleOf(trial)));
}

/** The last lines. */
function tailOf(text: string): string {
  return text.trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
}

export type Options = {
  readonly isShort: boolean;
  /** Only trials whose title it matches; their output is shown. */
  readonly pattern: string | null;
  readonly log: (line: string) => void;
};

/** Runs the trials, two at a time. */
export async function checkSurroundings({ isShort, pattern, log }: Options): Promise<readonly Finding[]> {
  const folder = mkdtempSync(join(tmpdir(), "ends-"));
  const findings: Finding[] = [];
  try {
    const baseline = await makeRecord(folder);
    await each(trialsOf(isShort, pattern), 2, async (trial) => {
      const title = titleOf(trial);
      const { end, problem } = await runTwice(trial, baseline);
      if (pattern !== null)
        log(`${title}: exit ${end.code}, ${end.seconds.toFixed(1)} s\n${tailOf(end.text)}`);
      if (problem === null) return;
      const finding = {
        what: `${title}: ${problem}`,
        command: `node dist/scripts/ends/surroundings.js '${title}'`,
      };
      findings.push(finding);
      log(`${finding.what}\n  ${finding.command}`);
    });
  } finally {
    remove(folder);
  }
  return findings;
}

export const trialCount = (isShort: boolean, pattern: string | null): number =>
  trialsOf(isShort, pattern).length;

async function runAlone(words: readonly string[]): Promise<number> {
  const isShort = words[0] === "short";
  const pattern = words[isShort ? 1 : 0] ?? null;
  const startMs = performance.now();
  const findings = await checkSurroundings({ isShort, pattern, log: (line) => console.log(line) });
  const count = trialCount(isShort, pattern);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  console.log(`surroundings: ${count} trials, ${findings.length} findings, ${seconds} s`);
  return count === 0 || findings.length > 0 ? 1 : 0;
}

/** Ended itself, the check leaves no trial behind. */
function endTrials(): void {
  for (const pid of processesOf(null)) process.kill(pid, "SIGKILL");
  process.exit(130);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.on("SIGINT", endTrials);
  process.on("SIGTERM", endTrials);
  process.exitCode = await runAlone(process.argv.slice(2));
}
