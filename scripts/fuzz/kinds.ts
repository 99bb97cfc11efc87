/** The kinds of files that are read, and for each how an input of it is made: files out of the seeds, and a command line. */
import { mutatedBytes } from "./bytes.ts";
import { type Grammar, gentlyMutated, grammarOf } from "./gentle.ts";
import { hostileNumbers, hostileText, hostileTexts } from "./hostile.ts";
import { type FuzzCall, type FuzzEntry, type FuzzInput, fileEntry, type ReaderName } from "./input.ts";
import {
  type Dictionary,
  dictionaryOf,
  Members,
  mutatedText,
  mutatedTree,
  renamedEverywhere,
  type Tree,
  textOf,
  textsIn,
  treeOf,
} from "./json.ts";
import type { Random } from "./random.ts";
import type { CommandSeed, Seeds } from "./seeds.ts";

type Made = { readonly entries: readonly FuzzEntry[]; readonly call: FuzzCall; readonly isProcess?: boolean };

/** Files of one kind: the seeds, and what stands where in them. */
type Shelf = { readonly trees: readonly Tree[]; readonly grammar: Grammar };

function shelfOf(seeds: readonly unknown[]): Shelf {
  const trees = seeds.map(treeOf);
  return { trees, grammar: grammarOf(trees) };
}

/** A line of a record that a case depends on by its hash. */
const isDefinition = (line: unknown): boolean => (line as { readonly type?: unknown }).type === "scenario";

/** What makers share: the seeds, their words. */
export class Kitchen {
  readonly seeds: Seeds;
  readonly dictionary: Dictionary;
  readonly scenarios: Shelf;
  readonly kinds: Shelf;
  readonly proposals: Shelf;
  readonly faults: Shelf;
  readonly guards: Shelf;
  /** By record: its lines. */
  readonly records: readonly (readonly Tree[])[];
  readonly recordGrammar: Grammar;
  readonly #shelves = new Map<unknown, Shelf>();

  constructor(seeds: Seeds) {
    this.seeds = seeds;
    const { records, ...rest } = seeds;
    this.dictionary = dictionaryOf([rest.scenarios, rest.kinds, rest.proposals, rest.errata, ...records]);
    this.scenarios = shelfOf(seeds.scenarios);
    this.kinds = shelfOf(seeds.kinds);
    this.proposals = shelfOf(seeds.proposals);
    this.faults = shelfOf([seeds.faults]);
    this.guards = shelfOf(seeds.guards);
    this.records = records.map((lines) => lines.map(treeOf));
    this.recordGrammar = grammarOf(
      records
        .flat()
        .filter((line) => !isDefinition(line))
        .map(treeOf),
    );
  }

  /** Of a seed that stands alone. */
  shelf(seed: unknown): Shelf {
    const shelf = this.#shelves.get(seed) ?? shelfOf([seed]);
    this.#shelves.set(seed, shelf);
    return shelf;
  }
}

/** A tree after gentle changes, or now and then after none. */
function gentle(random: Random, tree: Tree, grammar: Grammar): Tree {
  return random.oneIn(6) ? tree : gentlyMutated(random, tree, grammar);
}

/** JSON after changes of its grammar, in half of the inputs gentle ones, else now and then of its bytes. */
function jsonFile(random: Random, tree: Tree, grammar: Grammar, { dictionary }: Kitchen): Buffer {
  if (random.oneIn(2)) return Buffer.from(textOf(gentle(random, tree, grammar)));
  const text = textOf(random.oneIn(12) ? tree : mutatedTree(random, tree, dictionary));
  const bytes = Buffer.from(text);
  return random.oneIn(6) ? mutatedBytes(random, bytes) : bytes;
}

/** A file of a shelf. */
function shelfFile(random: Random, { trees, grammar }: Shelf, kitchen: Kitchen): Buffer {
  return jsonFile(random, random.pick(trees), grammar, kitchen);
}

function memberOf(tree: Tree, name: string): Tree {
  if (!(tree instanceof Members)) return null;
  return tree.list.find(([one]) => one === name)?.[1] ?? null;
}

/** The object with the member changed. */
function withMember(tree: Tree, name: string, change: (value: Tree) => Tree): Tree {
  if (!(tree instanceof Members)) return tree;
  return new Members(tree.list.map(([one, value]) => [one, one === name ? change(value) : value]));
}

/** A scenario or proposal by another name, that no other has. */
function renamed(tree: Tree, prefix: string): Tree {
  return withMember(tree, "id", (id) => `${prefix}${String(id)}`.slice(0, 60));
}

const LOG = `error: kvm run failed Bad address
RAX=ffff8000fee000f0 RBX=0000000000000000 RCX=000000000000001b RDX=00000000fee000f0
RIP=ffff80000020ea22 RFL=00010086 [--S--P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
CR0=80000033 CR2=0000000000000000 CR3=0000000001413000 CR4=000626e8
Code=48 8b 04 25 00 10 00 40 <48> 8b 00
KVM internal error. Suberror: 1
vCPU 0: VcpuRun(Bad address (os error 14))
`;

function logInput(random: Random, kitchen: Kitchen): Made {
  const lines = LOG.split("\n").flatMap((line) => (random.oneIn(4) ? [line, hostileText(random)] : [line]));
  const text = mutatedText(random, lines.join("\n"), kitchen.dictionary);
  const bytes = random.oneIn(2) ? mutatedBytes(random, Buffer.from(text)) : Buffer.from(text);
  const entries = placed(random, "qemu.log", bytes);
  const argv = ["diagnose", "--log", "qemu.log"];
  return random.oneIn(2)
    ? { entries, call: command(argv) }
    : { entries, call: command([...argv, "--json", "out.jsonl"], ["out.jsonl"]) };
}

/** In place of a file: what is none, or leads away. */
function strangeEntries(random: Random, path: string): readonly FuzzEntry[] {
  switch (random.below(8)) {
    case 0:
      return [{ path, kind: "folder" }];
    case 1:
      return [{ path, kind: "fifo" }];
    case 2:
      return [{ path, kind: "link", to: "/dev/zero" }];
    case 3:
      return [{ path, kind: "link", to: path.split("/").at(-1) ?? path }];
    case 4:
      return [{ path, kind: "link", to: "../outside/secret.json" }];
    case 5:
      return [{ path, kind: "link", to: "/proc/self/mem" }];
    case 6:
      return [fileEntry(path, "")];
    default:
      return [];
  }
}

/** The file at the path, or in one of forty inputs something else. */
function placed(random: Random, path: string, content: Buffer): readonly FuzzEntry[] {
  return random.oneIn(40) ? strangeEntries(random, path) : [fileEntry(path, content)];
}

function command(argv: readonly string[], outputs: readonly string[] = []): FuzzCall {
  return { kind: "command", argv, outputs };
}

const FORMATS: readonly (readonly [option: string, file: string])[] = [
  ["--json", "out.jsonl"],
  ["--html", "out.html"],
  ["--junit", "out.xml"],
  ["--ktap", "out.ktap"],
  ["--markdown", "out.md"],
  ["--text", "out.txt"],
];

type Outputs = { readonly argv: readonly string[]; readonly outputs: readonly string[] };

/** Up to five outputs; now and then one that cannot be written, is an input, or is another one's. */
function someOutputs(random: Random, input: string): Outputs {
  // A page takes ten times as long as all others together.
  const chosen = random.some(FORMATS, 5).filter(([option]) => option !== "--html" || random.oneIn(4));
  const argv = chosen.flatMap(([option, file]) => {
    if (!random.oneIn(25)) return [option, file];
    return [option, random.pick(["/nowhere/at/all", input, "-", ".", ""])];
  });
  return {
    argv,
    outputs: argv.filter((_, index) => index % 2 === 1).filter((path) => path.startsWith("out.")),
  };
}

/** The user's own folder: scenarios that are nearly, or quite, valid, with names of their own. */
function ownFolder(random: Random, kitchen: Kitchen): readonly FuzzEntry[] {
  const { trees, grammar } = kitchen.scenarios;
  return ["case", "other", "third"].slice(0, 1 + random.below(3)).map((name) => {
    const tree = renamed(gentle(random, random.pick(trees), grammar), `my-${name}-`);
    return fileEntry(`mine/${name}.json`, textOf(tree));
  });
}

function scenarioInput(random: Random, kitchen: Kitchen): Made {
  if (random.oneIn(6)) {
    return {
      entries: ownFolder(random, kitchen),
      call: command(["list", "scenarios", "--scenarios", "mine"]),
    };
  }
  const file = shelfFile(random, kitchen.scenarios, kitchen);
  const id = random.oneIn(12) ? `#${random.pick(["load-after-truncate", "", "x", ...hostileTexts])}` : "";
  const path = random.oneIn(3) ? "mine/case.json" : "case.json";
  const entries = placed(random, path, file);
  const proposal = random.pick(["native", "apf-loop", "efault-exit", "today @exits", "*"]);
  switch (random.below(6)) {
    case 0:
      return {
        entries,
        call: command(["list", "scenarios", "--scenarios", path.includes("/") ? "mine" : "."]),
      };
    case 1:
    case 2:
      if (random.oneIn(150)) return runInput(random, entries, path + id);
      return {
        entries,
        call: command(["explore", "apf-loop", "--scenario", path + id, "--max-states", "300"]),
      };
    case 3:
      return { entries, call: command(["run", "--list", path + id, "--proposal", proposal]) };
    default:
      return { entries, call: command(["run", "--list", path + id]) };
  }
}

/** Carried out, by the model: a process of its own, for it starts others. */
function runInput(random: Random, entries: readonly FuzzEntry[], scenario: string): Made {
  const model = ["--engine", "model", "--proposal", "apf-loop", "--timeout", "2"];
  if (random.oneIn(2)) {
    const bundle = command(["repro", scenario, ...model, "--out", "bundle"], ["bundle"]);
    return { entries, call: bundle, isProcess: true };
  }
  const { argv, outputs } = someOutputs(random, "case.json");
  return { entries, call: command(["run", scenario, ...model, ...argv], outputs), isProcess: true };
}

function proposalFile(random: Random, kitchen: Kitchen): Buffer {
  const { trees, grammar } = kitchen.proposals;
  if (random.oneIn(2)) {
    const some = random.some(trees, 5).map((tree) => gentle(random, tree, grammar));
    return Buffer.from(textOf(random.oneIn(3) ? random.pick([...some, trees[0] ?? null]) : some));
  }
  return jsonFile(random, random.oneIn(2) ? random.some(trees, 3) : random.pick(trees), grammar, kitchen);
}

function proposalInput(random: Random, kitchen: Kitchen): Made {
  const isFolder = random.oneIn(4);
  const path = isFolder ? "mine/one.json" : "one.json";
  const option = ["--proposals", isFolder ? "mine" : path];
  const entries = placed(random, path, proposalFile(random, kitchen));
  const explore = ["explore", "my-*", "--scenario", "load-after-truncate", "--max-states", "300"];
  const calls: readonly FuzzCall[] = [
    command(["list", "proposals", ...option]),
    command(["run", "--list", "load-after-truncate", ...option]),
    command([...explore, ...option]),
    command([...explore, ...option]),
  ];
  if (random.oneIn(20)) return { entries, call: command(["list", "proposals", ...option, ...option]) };
  return { entries, call: random.pick(calls) };
}

/** Expectations of the user's own: rows and cells that stand somewhere in ours, some of them about the own scenarios. */
function ownKinds(random: Random, { kinds }: Kitchen): Tree {
  const rows = memberOf(random.pick(kinds.trees), "rows");
  const list = rows instanceof Members ? rows.list : [];
  const some = random.some(list, 6).map(([name, body], at): readonly [string, Tree] => {
    const changed = random.oneIn(2) ? gentlyMutated(random, body, kinds.grammar) : body;
    if (!random.oneIn(4)) return [name, changed];
    return [at === 0 ? "my-*" : name, changed];
  });
  const defect = random.oneIn(4)
    ? [["defects", new Members([["mine", treeOf({ text: "a", source: "b" })]])] as const]
    : [];
  return new Members([["about", "Mine."], ...defect, ["rows", new Members(some)]]);
}

const firstKinds = {
  about: "Mine.",
  rows: {
    mine: { native: "victim.last sigbus", "@exits": "stopped(efault); victim.last killed", "@loops": "lost" },
  },
};

function kindsInput(random: Random, kitchen: Kitchen): Made {
  const { scenarios, kinds } = kitchen;
  const scenario = renamed(random.pick(scenarios.trees), "my-");
  const own = kitchen.shelf(firstKinds);
  const isGentle = random.oneIn(2);
  const file = isGentle
    ? Buffer.from(textOf(ownKinds(random, kitchen)))
    : jsonFile(random, random.pick(random.oneIn(3) ? own.trees : kinds.trees), kinds.grammar, kitchen);
  const entries = [
    fileEntry("mine/case.json", textOf(scenario)),
    ...placed(random, "mine/kinds/case.json", file),
    ...(!isGentle && random.oneIn(5)
      ? placed(random, "mine/kinds/other.json", shelfFile(random, own, kitchen))
      : []),
  ];
  // All expectations are checked, whatever is listed.
  const few = random.oneIn(3) ? [] : ["--engine", "model", "--proposal", "apf-loop"];
  const call = random.oneIn(4)
    ? command(["list", "scenarios", "--scenarios", "mine"])
    : command(["run", "--list", "mine/case.json", ...few]);
  return { entries, call };
}

/** The lines after changes: of one line's grammar, of their order, of a text wherever it stands. */
function recordLines(random: Random, lines: readonly Tree[], { dictionary }: Kitchen): readonly string[] {
  let trees = lines;
  do {
    const at = random.below(trees.length);
    switch (random.below(8)) {
      case 0:
        trees = trees.filter((_, index) => index !== at);
        break;
      case 1:
        trees = [...trees.slice(0, at), ...trees.slice(at, at + 1), ...trees.slice(at)];
        break;
      case 2: {
        const other = random.below(trees.length);
        const swapped = [...trees];
        [swapped[at], swapped[other]] = [trees[other] ?? null, trees[at] ?? null];
        trees = swapped;
        break;
      }
      case 3:
      case 4: {
        const text = random.pick(textsIn(trees[at] ?? null).concat("native"));
        const changed = random.oneIn(3) ? mutatedText(random, text, dictionary) : text + hostileText(random);
        trees = trees.map((tree) => renamedEverywhere(tree, text, changed));
        break;
      }
      default:
        trees = trees.map((tree, index) => (index === at ? mutatedTree(random, tree, dictionary) : tree));
    }
    if (trees.length === 0) return [];
  } while (random.oneIn(2));
  return trees.map(textOf);
}

/**
 * A record that is read, more often than not: lines of cases and of the run with other words of their places, lines twice,
 * in another order or fewer.
 */
function gentleRecord(random: Random, lines: readonly Tree[], grammar: Grammar): readonly string[] {
  const [first = null, ...rest] = lines;
  const isCase = (tree: Tree): boolean => memberOf(tree, "type") === "case";
  const victim = random.below(Math.max(1, rest.filter(isCase).length));
  let cases = 0;
  const changed = rest.flatMap((tree): readonly Tree[] => {
    if (!isCase(tree)) return [tree];
    const isVictim = cases === victim;
    cases += 1;
    if (!isVictim) return [tree];
    const other = gentlyMutated(random, tree, grammar);
    switch (random.below(6)) {
      case 0:
        return [];
      case 1:
        return [tree, other];
      default:
        return [other];
    }
  });
  const last = random.oneIn(6) ? changed.slice(0, -1) : changed;
  const run = random.oneIn(6) ? gentlyMutated(random, first, grammar) : first;
  return [run, ...last].map(textOf);
}

/** A text of the record with something hostile behind it, wherever it stands: the reader lets most of them be anything. */
function hostileRecord(random: Random, trees: readonly Tree[]): readonly string[] {
  const text = random.pick(textsIn(random.pick(trees)).concat("native"));
  const changed = text + hostileText(random);
  return trees.map((tree) => textOf(renamedEverywhere(tree, text, changed)));
}

function recordFile(random: Random, kitchen: Kitchen): Buffer {
  const record = random.pick(kitchen.records);
  const bytesOf = (lines: readonly string[]): Buffer =>
    Buffer.from(lines.map((line) => `${line}\n`).join(""));
  switch (random.below(4)) {
    case 0:
      return bytesOf(hostileRecord(random, record));
    case 1: {
      const bytes = bytesOf(recordLines(random, record, kitchen));
      return random.oneIn(8) ? mutatedBytes(random, bytes) : bytes;
    }
    default:
      return bytesOf(gentleRecord(random, record, kitchen.recordGrammar));
  }
}

function recordInput(random: Random, kitchen: Kitchen): Made {
  const entries = placed(random, "run.jsonl", recordFile(random, kitchen));
  const { argv, outputs } = someOutputs(random, "run.jsonl");
  switch (random.below(8)) {
    case 0:
      return { entries, call: command(["compare", "run.jsonl", ...(random.oneIn(3) ? ["--all"] : [])]) };
    case 1: {
      const second = placed(random, "other.jsonl", recordFile(random, kitchen));
      return { entries: [...entries, ...second], call: command(["compare", "run.jsonl", "other.jsonl"]) };
    }
    case 2: {
      const second = placed(random, "other.jsonl", recordFile(random, kitchen));
      return {
        entries: [...entries, ...second],
        call: command(["report", "run.jsonl", "other.jsonl", ...argv], outputs),
      };
    }
    case 3:
      return {
        entries,
        call: command(["compare", "run.jsonl", "--json", "out.jsonl"], ["out.jsonl"]),
      };
    default:
      return { entries, call: command(["report", "run.jsonl", ...argv], outputs) };
  }
}

/** A record of a kernel with tracepoints of the fixtures, changed in those lines alone. */
function traceInput(random: Random, kitchen: Kitchen): Made {
  const { seeds, dictionary } = kitchen;
  const { lines } = random.pick(seeds.traces);
  const changed = lines.slice(0, 40).flatMap((line) => {
    if (random.oneIn(10)) return [mutatedText(random, line, dictionary)];
    return random.oneIn(15) ? [] : [line];
  });
  const record = (seeds.records[1] ?? []).map((line) => {
    const { type, kvmTrace } = line as { readonly type?: unknown; readonly kvmTrace?: object };
    return type === "case" ? { ...(line as object), kvmTrace: { ...kvmTrace, lines: changed } } : line;
  });
  const file = record.map((line) => `${JSON.stringify(line)}\n`).join("");
  const { argv, outputs } = someOutputs(random, "run.jsonl");
  const call = random.oneIn(3)
    ? command(["report", "run.jsonl", ...argv], outputs)
    : command(["compare", "run.jsonl", "--kvm", random.pick(["today", "final-efault", "x"])]);
  return { entries: [fileEntry("run.jsonl", file)], call };
}

function guardsInput(random: Random, kitchen: Kitchen): Made {
  const { seeds } = kitchen;
  const run = (seeds.records[0] ?? []).map((line) => `${JSON.stringify(line)}\n`).join("");
  const { trees, grammar } = kitchen.guards;
  const lines = random.oneIn(2)
    ? trees.map((tree) => textOf(gentle(random, tree, grammar)))
    : recordLines(random, trees, kitchen);
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
  const { argv, outputs } = someOutputs(random, "guards.jsonl");
  return {
    entries: [
      fileEntry("run.jsonl", run),
      ...placed(random, "guards.jsonl", random.oneIn(8) ? mutatedBytes(random, bytes) : bytes),
    ],
    call: command(["report", "run.jsonl", "guards.jsonl", ...argv], outputs),
  };
}

/** A bundle that somebody sent: its record, its scenario, and itself in the place of the next one. */
function bundleInput(random: Random, kitchen: Kitchen): Made {
  const { bundle } = kitchen.seeds;
  const victim = random.pick(["evidence.jsonl", "scenario.json", "repro.sh", "foreign.txt"]);
  const files = Object.entries({ "foreign.txt": undefined, ...bundle }).flatMap(([name, text]) => {
    if (name !== victim) return text === undefined ? [] : [fileEntry(`bundle/${name}`, text)];
    if (name === "evidence.jsonl") {
      const lines = recordLines(
        random,
        (text ?? "")
          .trim()
          .split("\n")
          .map((line) => treeOf(JSON.parse(line))),
        kitchen,
      );
      return placed(random, `bundle/${name}`, Buffer.from(lines.map((line) => `${line}\n`).join("")));
    }
    if (name === "scenario.json") {
      const tree = treeOf(JSON.parse(text ?? "null"));
      return placed(random, `bundle/${name}`, jsonFile(random, tree, kitchen.scenarios.grammar, kitchen));
    }
    return strangeEntries(random, `bundle/${name}`);
  });
  const model = ["--engine", "model", "--proposal", "apf-loop"];
  if (random.oneIn(150)) {
    const call = command(["repro", "load-after-truncate", ...model, "--out", "bundle"], ["bundle"]);
    return { entries: files, call, isProcess: true };
  }
  const calls: readonly FuzzCall[] = [
    random.oneIn(4)
      ? command(["report", "bundle/evidence.jsonl", "--html", "out.html"], ["out.html"])
      : command(["report", "bundle/evidence.jsonl"]),
    command(["compare", "bundle/evidence.jsonl"]),
    command(["run", "--list", "bundle/scenario.json", ...model]),
    // Refused before anything runs: what is checked of the place itself is seen in processes only.
    command(["repro", "bundle/scenario.json", ...model, "--timeout", "0", "--out", "bundle"]),
  ];
  return { entries: files, call: random.pick(calls) };
}

function reader(name: ReaderName, entries: readonly FuzzEntry[], argv: readonly string[]): Made {
  return { entries, call: { kind: "reader", reader: name, argv } };
}

function packageInput(random: Random, kitchen: Kitchen): Made {
  const { seeds } = kitchen;
  const [name, seed] = random.pick([
    ["errata", seeds.errata],
    ["documented", seeds.documented],
    ["observed", random.pick(seeds.observed)],
  ] as const);
  return reader(name, placed(random, "file.json", shelfFile(random, kitchen.shelf(seed), kitchen)), [
    "file.json",
  ]);
}

function serverInput(random: Random, kitchen: Kitchen): Made {
  const rules = shelfFile(random, kitchen.faults, kitchen);
  const options = random.some(
    [
      "--read-only",
      "--debug",
      "--writeback",
      "--passthrough",
      "--keep-cache",
      "--posix-acl",
      "--no-posix-acl",
      "--allow-direct-io",
      "--announce-submounts",
      "--detached",
    ],
    3,
  );
  const timeout = random.oneIn(3) ? ["--entry-timeout", random.pick(hostileNumbers)] : [];
  const argv = ["--source", ".", "--mountpoint", "mnt", "--faults", "rules.json", ...options, ...timeout];
  return reader("server-options", placed(random, "rules.json", rules), argv);
}

/** A bzImage's header, or an ELF file with one section `.modinfo`; then changed bytes. */
function kernelInput(random: Random): Made {
  const isImage = random.oneIn(2);
  let bytes = isImage ? bootHeader() : moduleFile();
  for (let count = random.below(8); count > 0; count -= 1) {
    bytes = Buffer.from(bytes);
    const at = random.below(Math.min(bytes.length, random.oneIn(2) ? 64 : bytes.length));
    const value = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    for (let width = random.pick([1, 2, 4, 8]); width > 0; width -= 1)
      if (at + width <= bytes.length) bytes[at + width - 1] = value;
  }
  if (random.oneIn(8)) bytes = mutatedBytes(random, bytes);
  if (!isImage) {
    const suffix = random.pick(["", "", "", ".gz"]);
    return reader("modules", placed(random, `modules/kvm.ko${suffix}`, bytes), ["modules", "kvm"]);
  }
  const entries = placed(random, "bzImage", bytes);
  if (random.oneIn(2)) return reader("kernel-image", entries, ["bzImage"]);
  return { entries, call: command(["run", "--list", "load-after-truncate", "--kernel", "bzImage"]) };
}

function bootHeader(): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes[0x1f1] = 1;
  bytes.writeUInt32LE(64, 0x1f4);
  bytes.writeUInt32BE(0x48647253, 0x202);
  bytes.writeUInt16LE(0x200, 0x20e);
  bytes.write("6.12.117 (builder) #1\0", 0x400, "latin1");
  return bytes;
}

function moduleFile(): Buffer {
  const info = Buffer.from("license=GPL\0depends=\0vermagic=6.12.117 SMP\0");
  const names = Buffer.from("\0.modinfo\0");
  const bytes = Buffer.alloc(64 + 2 * 64 + info.length + names.length);
  bytes.writeUInt32BE(0x7f454c46, 0);
  bytes[4] = 2;
  bytes.writeBigUInt64LE(64n, 0x28);
  bytes.writeUInt16LE(64, 0x3a);
  bytes.writeUInt16LE(2, 0x3c);
  bytes.writeUInt16LE(1, 0x3e);
  const data = 64 + 2 * 64;
  bytes.writeUInt32LE(1, 64);
  bytes.writeBigUInt64LE(BigInt(data), 64 + 0x18);
  bytes.writeBigUInt64LE(BigInt(info.length), 64 + 0x20);
  bytes.writeBigUInt64LE(BigInt(data + info.length), 128 + 0x18);
  bytes.writeBigUInt64LE(BigInt(names.length), 128 + 0x20);
  info.copy(bytes, data);
  names.copy(bytes, data + info.length);
  return bytes;
}

function tokenInput(random: Random, { seeds, dictionary }: Kitchen): Made {
  let token = random.pick(seeds.tokens);
  const parts = token.split("/");
  const at = random.below(parts.length);
  switch (random.below(7)) {
    case 0:
      token = parts.slice(0, at).join("/");
      break;
    case 1:
      token = parts
        .map((part, index) => (index === at ? random.pick([...hostileNumbers, "99"]) : part))
        .join("/");
      break;
    case 2:
      token = `${token}//${token}`;
      break;
    case 3:
      token = `${token}/`.repeat(random.pick([2, 10, 400]));
      break;
    case 4:
      token = mutatedText(random, token, dictionary);
      break;
    case 5:
      token = random.pick(hostileTexts);
      break;
    default:
  }
  const scenario = random.oneIn(8)
    ? random.pick([...dictionary.words, ...hostileTexts])
    : "load-after-truncate";
  const more = random.some(["--mermaid", "--no-timer"], 2);
  const argv = [
    "explore",
    "apf-loop",
    "--scenario",
    scenario,
    `--replay=${token}`,
    "--max-states",
    "300",
    ...more,
  ];
  return { entries: [], call: command(argv.map(asArgument)) };
}

/** No argument of a process has a NUL. */
function asArgument(text: string): string {
  return text.replaceAll("\0", "");
}

/**
 * What keeps a command line from doing its work, which is not fuzzed here: words that stand first, and stay. A command that is
 * not listed gets an option that it does not have.
 */
const heads: Readonly<Record<string, readonly string[]>> = {
  run: ["--list", "load-after-truncate"],
  report: ["run.jsonl"],
  compare: ["run.jsonl"],
  explore: ["apf-loop", "--scenario", "load-after-truncate"],
  list: ["proposals"],
  new: ["scenario"],
  schema: [],
};

function optionsInput(random: Random, kitchen: Kitchen): Made {
  const { seeds, dictionary } = kitchen;
  const { name, options } = random.pick<CommandSeed>(seeds.commands);
  const head = heads[name];
  const word = (): string => {
    if (random.oneIn(3)) return random.pick(hostileTexts);
    if (random.oneIn(3)) return random.pick(hostileNumbers);
    return random.oneIn(3)
      ? mutatedText(random, random.pick(dictionary.words), dictionary)
      : random.pick(dictionary.words);
  };
  const outputFiles = new Map([...FORMATS, ["--out", "out"] as const]);
  const words = random.some(options, 4).flatMap((option) => {
    if (option.name === "--help" && !random.oneIn(20)) return [];
    if (!option.takesValue) return [option.name];
    // A larger bound would be a longer search, and no error.
    if (option.name === "--max-states") return [option.name, random.pick(["0", "-1", "x", "300", "1e3"])];
    const output = outputFiles.get(option.name);
    if (output !== undefined) {
      return [option.name, random.oneIn(2) ? output : random.pick(["/nowhere/at/all", ".", "", "run.jsonl"])];
    }
    return random.oneIn(4) ? [`${option.name}=${word()}`] : [option.name, word()];
  });
  const free = Array.from({ length: random.below(3) }, word).filter((one) => !one.startsWith("-"));
  const refused = head === undefined ? ["--no-such-option"] : head;
  const bounded = name === "explore" && !words.includes("--max-states") ? ["--max-states", "300"] : [];
  const argv = [...name.split(" "), ...refused, ...free, ...words, ...bounded].map(asArgument);
  const run = (seeds.records[0] ?? []).map((line) => `${JSON.stringify(line)}\n`).join("");
  const isNew = name === "new";
  return {
    entries: [fileEntry("run.jsonl", run)],
    call: command(argv, [
      ...outputFiles.values(),
      ...(isNew ? [...free, ...free.map((file) => `kinds/${file}`), "kinds"] : []),
    ]),
  };
}

type Maker = (random: Random, kitchen: Kitchen) => Made;

/** The kinds, and how many of a hundred inputs are of each. */
const makers: readonly { readonly kind: string; readonly share: number; readonly make: Maker }[] = [
  { kind: "scenario", share: 22, make: scenarioInput },
  { kind: "proposal", share: 14, make: proposalInput },
  { kind: "kinds", share: 16, make: kindsInput },
  { kind: "record", share: 14, make: recordInput },
  { kind: "trace", share: 2, make: traceInput },
  { kind: "guards", share: 3, make: guardsInput },
  { kind: "bundle", share: 4, make: bundleInput },
  { kind: "package-data", share: 8, make: packageInput },
  { kind: "server-options", share: 5, make: serverInput },
  { kind: "kernel-file", share: 5, make: kernelInput },
  { kind: "token", share: 5, make: tokenInput },
  { kind: "log", share: 3, make: logInput },
  { kind: "options", share: 8, make: optionsInput },
];

export const kindNames: readonly string[] = makers.map(({ kind }) => kind);

/** Of the inputs that could run in the worker: one of so many is run as a process all the same. */
const PROCESS_ONE_IN = 1000;

/** @param only a kind, or null for all of them in their shares */
export function makeInput(random: Random, kitchen: Kitchen, only: string | null): FuzzInput {
  let at = random.below(makers.reduce((sum, { share }) => sum + share, 0));
  const maker =
    makers.find(({ kind }) => kind === only) ??
    makers.find(({ share }) => {
      at -= share;
      return at < 0;
    });
  if (maker === undefined) throw new Error("no kind");
  const { entries, call, isProcess = false } = maker.make(random, kitchen);
  const isSample = call.kind === "command" && random.oneIn(PROCESS_ONE_IN);
  return { kind: maker.kind, entries, call, isProcess: isProcess || isSample };
}
