/** What a scenario file may say, and that everything else is refused with place, value and limit. */
import { describe, expect, it } from "vitest";
import { scenarioSource } from "../../src/scenario/format.ts";
import { parseScenarios } from "../../src/scenario/parse.ts";
import { ScenarioError } from "../../src/scenario/problem.ts";
import { type ClientCache, cacheTimeoutMs, type Scenario } from "../../src/scenario/scenario.ts";

type Changes = Readonly<Record<string, unknown>>;

const plain = {
  id: "plain",
  purpose: "The plainest scenario.",
  backing: { size: "4MiB" },
  window: [{ file: 0, at: 0, length: "2MiB" }],
  actors: {
    victim: {
      in: "guest-task",
      steps: ["load 0x1000 8", "signal touched", "await cut", "load 0x1000 8"],
    },
    host: { in: "host-process", steps: ["await touched", "truncate 0", "signal cut"] },
  },
  witness: ["victim.load#1 is value", "host.truncate#1 is done"],
  properties: ["terminates"],
};

function parse(changes: Changes): readonly Scenario[] {
  return parseScenarios(JSON.stringify({ ...plain, ...changes }), "test.json");
}

/** Everything that is wrong, as the user sees it. */
function problems(changes: Changes): string {
  try {
    parse(changes);
  } catch (error) {
    if (error instanceof ScenarioError) return error.message;
    throw error;
  }
  return "nothing wrong";
}

const victim = (...steps: string[]): Changes => ({
  actors: { ...plain.actors, victim: { in: "guest-task", steps } },
  witness: [],
});
const host = (...steps: string[]): Changes => ({
  actors: { ...plain.actors, host: { in: "host-process", steps } },
  witness: [],
});

describe("memory that a handler fills", () => {
  const handled = (handler: unknown, more: Changes = {}): Changes => ({
    backing: { kind: "userfaultfd", size: "4MiB", ...(handler === undefined ? {} : { handler }), ...more },
    layout: "nvdimm",
    window: undefined,
  });

  it("has a handler, which is written as it was read", () => {
    const rules = ["missing at 0x300000 delay 200", "missing at 0x1000 poison"];
    const [scenario] = parse(handled({ faults: "user", prefault: "0x2000", rules }));
    expect(scenario?.backing.handler).toEqual({
      faults: "user",
      prefault: 0x2000n,
      rules: [
        { at: 0x300000n, action: { kind: "delay", ms: 200 } },
        { at: 0x1000n, action: { kind: "poison" } },
      ],
    });
    if (scenario === undefined) throw new Error("no scenario");
    const again = parseScenarios(JSON.stringify(scenarioSource(scenario)), "again.json");
    expect(again).toEqual([scenario]);
  });

  it.each([
    ["no handler", handled(undefined), "backing.handler: is missing"],
    ["a handler of a file", { backing: { size: 4096, handler: {} } }, "host-file has none"],
    ["what is done", handled({ rules: ["missing at 0 ignore"] }), '"ignore" is not one of delay, hang'],
    ["no place", handled({ rules: ["missing hang"] }), '"missing at OFFSET ACTION"'],
    ["a place behind it", handled({ rules: ["missing at 4MiB hang"] }), "is beyond the file's 4 MiB"],
    ["a delay without end", handled({ rules: ["missing at 0 delay 9999"] }), "is greater than the limit"],
    ["part of a page", handled({ prefault: 100 }), "no number of whole pages"],
    ["a window", { ...handled({}), layout: "dax-window" }, "userfaultfd needs layout nvdimm"],
  ])("names what is wrong: %s", (_what, changes, message) => {
    expect(problems(changes)).toContain(message);
  });
});

describe("a guest_memfd", () => {
  const backing = { kind: "guest-memfd", size: "4MiB" };
  it.each([
    ["a window", { backing, layout: "dax-window" }, "guest-memfd needs layout nvdimm"],
    [
      "read-only",
      { backing: { ...backing, readonly: true }, layout: "nvdimm", window: undefined },
      "it cannot be read-only",
    ],
    [
      "a mount",
      { backing: { ...backing, mount: {} }, layout: "nvdimm", window: undefined },
      "guest-memfd takes none",
    ],
  ])("is refused with %s", (_what, changes, message) => {
    expect(problems(changes)).toContain(message);
  });
});

describe("a VMM's own mapping", () => {
  const vmm = (...steps: string[]): Changes => ({
    actors: { ...plain.actors, vmm: { in: "vmm", steps } },
  });
  it.each([
    ["part of a page", vmm("unmap 0x1800 0x1000"), "unmap is of whole pages of 4096 bytes"],
    ["what is not mapped", vmm("protect 0x200000 0x1000 none"), "outside what is mapped"],
    ["a protection that is none", vmm("protect 0 0x1000 write"), '"write" is not one of none, read, all'],
    ["a page behind the window", vmm("memory-failure 0x200000"), "outside what is mapped"],
    ["a device that reads on behind it", vmm("device-read 0x1ffffc 8"), "outside what is mapped"],
  ])("refuses %s", (_what, changes, message) => {
    expect(problems(changes)).toContain(message);
  });

  it("may be touched by a device at any byte", () => {
    expect(problems(vmm("device-read 0x1001 3", "device-write 0x1001 1 0xff"))).toBe("nothing wrong");
  });
});

describe("a backing through our mount", () => {
  const mount = (...faults: string[]): Changes => ({ backing: { size: "4MiB", mount: { faults } } });

  it("reads what its server does", () => {
    const [scenario] = parse(
      mount(
        "read at 0x300000 after 1 times 2 delay 200",
        "read fail EIO",
        "write short 512",
        "open truncate 4KiB",
        "read at 0x300000 hang",
      ),
    );
    const all = { at: null, after: 0, times: null };
    expect(scenario?.backing.mount?.faults).toEqual([
      { operation: "read", at: 0x300000, after: 1, times: 2, action: { kind: "delay", ms: 200 } },
      { ...all, operation: "read", action: { kind: "fail", errno: "EIO" } },
      { ...all, operation: "write", action: { kind: "short", bytes: 512 } },
      { ...all, operation: "open", action: { kind: "truncate", sizeBytes: 4096 } },
      { ...all, operation: "read", at: 0x300000, action: { kind: "hang" } },
    ]);
    expect(scenario?.hash).not.toBe(parse(mount())[0]?.hash);
    expect(parse(mount())[0]?.hash).not.toBe(parse({})[0]?.hash);
  });

  it("says how long the server's clients hold attributes; left out, it is no member", () => {
    const cached = (cache: string): Changes => ({ backing: { size: "4MiB", cache } });
    expect(parse(cached("never"))[0]?.backing).toEqual({
      kind: "host-file",
      size: 0x400000n,
      content: "pattern",
      cache: "never",
    });
    expect(parse({})[0]?.backing).not.toHaveProperty("cache");
    expect(problems(cached("auto"))).toMatch(/backing\.cache/);
    expect(
      [undefined, "never", "always"].map((one) => cacheTimeoutMs(one as ClientCache | undefined)),
    ).toEqual([null, 0, 86_400_000]);
  });

  it.each([
    ["seek delay 1", "unknown operation"],
    ["read delay", "milliseconds is missing"],
    ["read delay 2001", "milliseconds 0x7d1 is greater than the limit 0x7d0"],
    ["read delay 0", "milliseconds 0x0 is less than 0x1"],
    ["read fail EWRONG", "is not the name of an errno"],
    ["read break", "is not one of delay, fail, short, hang, truncate"],
    ["read", "what is done (delay, fail, short, hang or truncate) is missing"],
    ["open at 0 fail EIO", "goes with read and write only"],
    ["read at 0x400000 fail EIO", "at 0x400000 is beyond the file's 4 MiB"],
    ["getattr hang", "hang goes with read only"],
    ["read hang 5", 'unexpected "5"'],
    ["read fail EIO twice", 'unexpected "twice"'],
  ])("refuses %s", (rule, message) => {
    expect(problems(mount(rule))).toContain(message);
  });
});

describe("parseScenarios", () => {
  it("reads a scenario and fills in what may be left out", () => {
    const [scenario] = parse({});
    expect(scenario).toMatchObject({
      id: "plain",
      layout: "dax-window",
      backing: { kind: "host-file", size: 4n << 20n, content: "pattern" },
      window: [{ fileOffset: 0n, at: 0n, length: 2n << 20n }],
      proposals: null,
      needs: [],
    });
    expect(scenario?.actors.victim?.steps[0]).toEqual({ verb: "load", offset: 0x1000n, size: 8 });
    expect(scenario?.actors.host).toMatchObject({ through: "file" });
    expect(scenario?.witness[0]).toEqual({ subject: "victim", label: "load#1", is: "value" });
  });

  it("takes an answer for the presets that have it, each once, and leaves the hash alone", () => {
    const about = (...proposals: string[]) => parse({ proposals })[0];
    expect(about("native", "today @loops")?.proposals).toEqual([
      "native",
      "apf-guest",
      "apf-loop",
      "apf-send-always",
      "no-hlt-exits",
    ]);
    expect(about("poison", "today @loops @zeros -*-user-apic", "@signals", "apf-loop")?.proposals).toEqual([
      "poison",
      "apf-guest",
      "apf-loop",
      "apf-send-always",
      "no-hlt-exits",
      "remap-zero",
      "native",
    ]);
    expect(about("today @loops")?.hash).toBe(about("apf-loop", "apf-guest")?.hash);
  });

  it("maps the whole file where no window is given, and none for a layout without a window", () => {
    expect(parse({ window: undefined })[0]?.window).toEqual([{ fileOffset: 0n, at: 0n, length: 4n << 20n }]);
    for (const layout of ["nvdimm", "virtio-fs"]) {
      const [scenario] = parse({ window: undefined, layout });
      expect(scenario?.window).toEqual([]);
      expect(parse({ window: undefined, ...scenarioSource(scenario as Scenario) })[0]).toEqual(scenario);
    }
  });

  it("reads the vCPU of a task and the signal that ends a repetition", () => {
    const [scenario] = parse({
      actors: {
        spinner: { in: "guest-task", steps: ["load 0x1000 8 until cut"] },
        other: { in: "guest-task", cpu: 1, steps: ["store 0x1000 8 1 until cut"] },
        host: { in: "host-process", steps: ["truncate 0", "signal cut"] },
      },
      witness: [],
    });
    expect(scenario?.actors.spinner?.steps).toEqual([
      { verb: "load", offset: 0x1000n, size: 8, until: "cut" },
    ]);
    expect(scenario?.actors.other).toMatchObject({ cpu: 1, steps: [{ verb: "store", until: "cut" }] });
  });

  it("makes copies of a task, the accesses of each further behind", () => {
    const [scenario] = parse({
      actors: {
        crowd: {
          in: "guest-task",
          copies: { count: 2, apart: "4KiB" },
          steps: ["await cut", "load 0x10 8", "push 0x20 1", "file-size", "msync 0x20 8"],
        },
        host: { in: "host-process", steps: ["truncate 0", "signal cut"] },
      },
      witness: [],
    });
    expect(Object.keys(scenario?.actors ?? {})).toEqual(["crowd-1", "crowd-2", "host"]);
    expect(scenario?.actors["crowd-2"]?.steps).toEqual([
      { verb: "await", name: "cut" },
      { verb: "load", offset: 0x1010n, size: 8 },
      { verb: "push", offset: 0x1020n, value: 1n },
      { verb: "file-size", offset: 0n },
      { verb: "msync", offset: 0x1020n, size: 8 },
    ]);
  });

  it("reads the ways in which a host makes a file shorter", () => {
    const steps = [
      "truncate 0 as-nobody own-namespace",
      "open-truncate 4KiB",
      "open",
      "ftruncate 0x1000",
      "open-trunc",
      "open-read",
      "collapse 4KiB 8KiB",
      "map-store 0x1000 0x5a",
    ];
    const victim = { in: "guest-task", steps: ["load 0x1000 8"] };
    const [scenario] = parse({ actors: { victim, host: { in: "host-process", steps } }, witness: [] });
    expect(scenario?.actors.host?.steps).toEqual([
      { verb: "truncate", size: 0n, options: ["as-nobody", "own-namespace"] },
      { verb: "open-truncate", size: 0x1000n },
      { verb: "open" },
      { verb: "ftruncate", size: 0x1000n },
      { verb: "open-trunc" },
      { verb: "open-read" },
      { verb: "collapse", offset: 0x1000n, length: 0x2000n },
      { verb: "map-store", offset: 0x1000n, value: 0x5an },
    ]);
  });

  it("reads every verb", () => {
    const [scenario] = parse({
      backing: { size: "4MiB", content: "code" },
      actors: {
        victim: {
          in: "guest-kernel",
          steps: [
            "store 0x1000 8 0x5a",
            "atomic 0x1010 16",
            "fetch 0x2000",
            "copy-from 0x1ff8 24",
            "copy-to 0x10 1 255",
            "signal a",
            "await b",
            "count",
          ],
        },
        host: { in: "host-process", through: "mount", steps: ["punch 4KiB 0x1000", "rename-over", "unlink"] },
        vmm: { in: "vmm", steps: ["await stuck", "resume", "await a", "signal b"] },
      },
      witness: [],
    });
    expect(scenario?.actors.victim?.steps).toEqual([
      { verb: "store", offset: 0x1000n, size: 8, value: 0x5an },
      { verb: "atomic", offset: 0x1010n, size: 16 },
      { verb: "fetch", offset: 0x2000n },
      { verb: "copy-from", offset: 0x1ff8n, size: 24 },
      { verb: "copy-to", offset: 0x10n, size: 1, value: 255n },
      { verb: "signal", name: "a" },
      { verb: "await", name: "b" },
      { verb: "count" },
    ]);
    expect(scenario?.actors.host?.steps).toEqual([
      { verb: "punch", offset: 0x1000n, length: 0x1000n },
      { verb: "rename-over" },
      { verb: "unlink" },
    ]);
  });
});

describe("a step is refused", () => {
  it.each([
    ["an unknown verb", victim("lod 0x1000 8"), 'actors.victim.steps[0]: unknown verb "lod"'],
    ["a host's verb in the guest", victim("truncate 0"), 'unknown verb "truncate"'],
    ["a size that no load has", victim("load 0x1000 3"), "size 3 is not one of 1, 2, 4, 8, 16, 32, 64"],
    ["a size that no atomic has", victim("atomic 0x1000 32"), "size 32 is not one of 1, 2, 4, 8, 16"],
    ["an atomic off its alignment", victim("atomic 0x1001 8"), "0x1001 is not a multiple of the size 8"],
    ["a copy of nothing", victim("copy-from 0x1000 0"), "size 0x0 is less than 0x1"],
    ["a copy too large", victim("copy-from 0x1000 65"), "size 0x41 is greater than the limit 0x40"],
    [
      "a copy beyond all bounds",
      victim("copy-to 0x1000 0xffffffffffffffff 1"),
      "size 0xffffffffffffffff is greater than the limit 0x40",
    ],
    ["a descriptor that nobody has opened", host("ftruncate 0"), "ftruncate needs an open before it"],
    [
      "an option that there is not",
      host("truncate 0 as-root"),
      '"as-root" is not one of own-namespace, as-nobody',
    ],
    ["a length of 2^64-1", host("punch 0 0xffffffffffffffff"), "is greater than the limit 0x4000000"],
    ["a number beyond 64 bits", victim("load 0x10000000000000000 8"), "is greater than the limit"],
    [
      "a value wider than the store",
      victim("store 0x1000 1 256"),
      "value 0x100 is greater than the limit 0xff",
    ],
    ["a value that is none", victim("store 0x1000 8 x"), 'value "x" is not a number'],
    ["a missing operand", victim("load 0x1000"), "size is missing"],
    ["an operand too many", victim("load 0x1000 8 9"), 'unexpected "9"'],
    ["an offset beyond the window", victim("load 0x200000 8"), "is outside what is mapped (0x0 to 0x200000)"],
    ["an access across its end", victim("load 0x1ffffc 8"), "offset 0x1ffffc + 8 bytes is outside"],
    ["an offset that would wrap", victim("load 0xfffffffffffffff8 8"), "is outside what is mapped"],
    ["a fetch without code", victim("fetch 0x1000"), 'fetch needs backing.content "code"'],
    ["a fetch inside a page", victim("fetch 0x1008"), "0x1008 is not a multiple of 4096"],
    [
      "a page pinned off its alignment",
      victim("load 0 8", "kernel-pin 0x1008"),
      "0x1008 is not a multiple of 4096: O_DIRECT",
    ],
    [
      "direct bytes across pages",
      victim("file-read-direct 0x1ffc 8"),
      "offset 0x1ffc + 8 bytes end in another page",
    ],
    ["a child's load by a vector register", victim("fork-load 0 32"), "size 32 is not one of 1, 2, 4, 8, 16"],
    [
      "a store to a file that is executed",
      victim("store 0 8 1", "exec"),
      "store needs a mapping for writing, exec one for reading only",
    ],
    ["steps after count", victim("count", "load 0x1000 8"), "count never ends: it must be the last step"],
    ["a signal nobody raises", victim("load 0 8", "await never"), 'awaits "never", which nobody signals'],
    ["a repetition without end", victim("load 0 8 until never"), 'awaits "never", which nobody signals'],
    ["a repetition without a signal", victim("load 0 8 until"), "signal name is missing"],
    ["a kill of nobody", victim("load 0 8", "kill nobody"), "kills nobody, which is no other guest actor"],
    ["a kill of itself", victim("load 0 8", "kill victim"), "kills victim, which is no other guest actor"],
    ["a kill of an actor with a bad name", victim("load 0 8", "kill No"), '"No" is not the name of an actor'],
    ["a push without a value", victim("push 0x1000"), "value is missing"],
    ["a name with capitals", victim("signal Touched"), 'signal name "Touched" is not of the form'],
    ["stuck raised by a step", host("signal stuck"), '"stuck" is raised by the engine only'],
    ["stuck awaited in the guest", victim("load 0 8", "await stuck"), "by the host and the vmm only"],
    ["truncation beyond the limit", host("truncate 0x4000001"), "greater than the limit 0x4000000"],
    [
      "65 steps",
      victim(...Array.from({ length: 65 }, () => "load 0 8")),
      "more steps than the limit 64, not 65",
    ],
    ["no step", victim(), "actors.victim.steps: at least 1, not 0"],
    [
      "a value of 128 bits",
      victim(`store 0 8 0x${"f".repeat(32)}`),
      "value 0xffffffffffffffffffffffffffffffff is greater than the limit 0xffffffffffffffff",
    ],
    ["a step that goes on and on", victim(`load ${"0".repeat(200)}`), "is longer than the limit 120"],
  ])("%s", (_what, changes, message) => {
    expect(problems(changes)).toContain(message);
    expect(problems(changes)).toContain("test.json:1: actors.");
  });
});

describe("a scenario is refused", () => {
  const many = (count: number, actor: object): Changes => ({
    actors: Object.fromEntries(Array.from({ length: count }, (_, index) => [`a${index}`, actor])),
    witness: [],
  });
  const window = (...mappings: object[]): Changes => ({ window: mappings });

  it.each([
    ["an unknown member", { colour: "red" }, "colour"],
    ["no id", { id: undefined }, "id"],
    ["an id with blanks", { id: "a b" }, "an id is words of"],
    ["a file too large", { backing: { size: "65MiB" } }, "65 MiB is greater than the limit 64 MiB"],
    ["a file of a page and a half", { backing: { size: 6144 } }, "0x1800 is not a multiple of 4096"],
    ["an empty file", { backing: { size: 0 } }, "0x0 bytes is less than 4 KiB"],
    ["a full tmpfs of one page", { backing: { size: 4096, kind: "tmpfs-full" } }, "is less than 8 KiB"],
    [
      "a DAX window of private pages",
      { backing: { size: 4096, kind: "private-swapped" } },
      "private-swapped needs layout nvdimm",
    ],
    [
      "a mount whose pages come from swap",
      { backing: { size: 4096, kind: "private-swapped", mount: {} }, layout: "nvdimm", window: undefined },
      "private-swapped takes none",
    ],
    ["a size that is none", { backing: { size: "4MB" } }, '"4MB" is not a size'],
    ["a negative size", { backing: { size: -4096 } }, "-4096 is not a size"],
    [
      "an unaligned mapping",
      window({ file: 0, at: 0x800, length: "2MiB" }),
      "window[0].at: 0x800 is not a multiple of 4096",
    ],
    [
      "an unaligned length",
      window({ file: 0, at: 0, length: 100 }),
      "window[0].length: 0x64 is not a multiple",
    ],
    ["an unaligned file offset", window({ file: 1, at: 0, length: 4096 }), "window[0].file: 0x1"],
    ["a mapping of nothing", window({ file: 0, at: 0, length: 0 }), "window[0].length: 0 maps nothing"],
    ["an empty window", window(), "window: maps nothing"],
    [
      "a window overflow",
      window({ file: 0, at: "64MiB", length: 4096 }),
      "at 0x4000000 + length 0x1000 is beyond the window's limit 64 MiB",
    ],
    [
      "a length of 2^64-1",
      window({ file: 0, at: 0, length: "0xffffffffffffffff" }),
      "window[0]: at 0x0 + length 0xffffffffffffffff is beyond the window's limit 64 MiB",
    ],
    [
      "a mapping beyond the file",
      window({ file: "4MiB", at: 0, length: 4096 }),
      "file 0x400000 + length 0x1000 is beyond the file's 4 MiB",
    ],
    [
      "an overlap",
      window({ file: 0, at: 0, length: "2MiB" }, { file: 0, at: "1MiB", length: "2MiB" }),
      "window[1]: 0x100000 to 0x300000 overlaps window[0], 0x0 to 0x200000",
    ],
    ["a window for nvdimm", { layout: "nvdimm" }, "layout nvdimm has the whole file"],
    ["a window for virtio-fs", { layout: "virtio-fs" }, "layout virtio-fs has the whole file"],
    [
      "private copies in a page cache",
      { backing: { size: 4096, kind: "private-swapped" }, layout: "virtio-fs", window: undefined },
      "private-swapped needs layout nvdimm: in layout virtio-fs no mapping is private",
    ],
    [
      "a guest_memfd in a window of mappings",
      { backing: { size: 4096, kind: "guest-memfd" }, window: undefined },
      "guest-memfd needs layout nvdimm: in layout dax-window the memslot is mappings of a file",
    ],
    [
      "105 guest tasks",
      many(105, { in: "guest-task", steps: ["load 0 8"] }),
      "105 guest tasks are more than the limit 104",
    ],
    [
      "a third vCPU",
      many(1, { in: "guest-task", cpu: 2, steps: ["load 0 8"] }),
      "actors.a0.cpu: vCPUs are numbered from 0 to 1",
    ],
    [
      "nobody on vCPU 0",
      many(1, { in: "guest-task", cpu: 1, steps: ["load 0 8"] }),
      "no guest actor runs on vCPU 0, but one on vCPU 1",
    ],
    ["five host processes", many(5, { in: "host-process", steps: ["unlink"] }), "more than the limit 4"],
    ["two VMMs", many(2, { in: "vmm", steps: ["resume"] }), "2 vmm actors are more than the limit 1"],
    [
      "nobody who touches",
      { actors: { host: plain.actors.host }, witness: [] },
      "nobody in the guest touches",
    ],
    [
      "seventeen signals",
      victim("load 0 8", ...Array.from({ length: 17 }, (_, index) => `signal s${index}`)),
      "signal names are more than the limit 16",
    ],
    ["an actor called kvm", { actors: { kvm: plain.actors.victim }, witness: [] }, "reserved"],
    ["an actor with a bad name", { actors: { __proto__x: plain.actors.victim } }, "actors"],
    [
      "an unknown property",
      { properties: ["nice"] },
      'properties[0]: unknown property "nice"; known: terminates',
    ],
    ["an unknown proposal", { proposals: ["apf"] }, 'proposals[0]: unknown proposal "apf"; known: native'],
    [
      "an unknown answer",
      { proposals: ["native", "@exit"] },
      'proposals[1]: unknown answer "@exit"; nearest: @exits',
    ],
    [
      "an unknown proposal beside an answer",
      { proposals: ["@exits apf"] },
      'proposals[0]: unknown proposal "apf"',
    ],
    ["an unknown exception", { proposals: ["@exits -apf"] }, 'proposals[0]: unknown proposal "apf"'],
    [
      "all proposals beside an answer",
      { proposals: ["* @exits"] },
      "proposals[0]: leave proposals out for all",
    ],
    [
      "an answer without presets",
      { proposals: ["proposed @zeros"] },
      'proposals[0]: "proposed @zeros" stands for no',
    ],
    ["a need that is no capability", { needs: ["MCE"] }, "the name of a capability"],
    ["a witness without form", { witness: ["victim loads"] }, 'is not of the form "actor.label is word"'],
    ["a witness of nobody", { witness: ["x.load#1 is value"] }, "there is no actor x"],
    [
      "a witness of no step",
      { witness: ["victim.load#3 is value"] },
      "victim has no load#3 (has load#1, load#2)",
    ],
    ["a store that is only done", { witness: ["victim.load#1 is done"] }, "done is not one of value, zero"],
    ["a witness with no word", { witness: ["victim.load#1 is fine"] }, "fine is not one of value, zero"],
    [
      "a host witness with a guest's word",
      { witness: ["host.truncate#1 is zero"] },
      "zero is not one of done",
    ],
    ["a capability's witness", { witness: ["kvm.KVM_CAP_MCE is on"] }, "on is not a number"],
    ["an NMI's witness", { witness: ["guest.nmi is 1"] }, "nmi is seen or none, not 1"],
    ["an NMI that saves something else", { nmi: "cr3-lost" }, "nmi"],
    [
      "a kill across vCPUs",
      {
        actors: {
          victim: { in: "guest-task", steps: ["load 0 8"] },
          killer: { in: "guest-task", cpu: 1, steps: ["kill victim"] },
        },
        witness: [],
      },
      "kills victim on vCPU 0 from vCPU 1",
    ],
    [
      "more copies than there is room for",
      {
        actors: { a: { in: "guest-task", copies: { count: 105, apart: 4096 }, steps: ["load 0 8"] } },
        witness: [],
      },
      "more copies than the limit 104",
    ],
    [
      "copies beyond what is mapped",
      {
        actors: { a: { in: "guest-task", copies: { count: 3, apart: "1MiB" }, steps: ["load 0 8"] } },
        witness: [],
      },
      "actors.a-3.steps[0]: offset 0x200000 + 8 bytes is outside what is mapped",
    ],
    ["a backing's witness", { witness: ["backing.swap-out is 4"] }, "swap-out is seen or none, not 4"],
    [
      "another of its",
      { witness: ["backing.swap-in is seen"] },
      'only "swap-out" and "huge-page" can be witnessed',
    ],
    ["a guest's witness", { witness: ["guest.apf is 1"] }, "apf is on or off, not 1"],
  ])("%s", (_what, changes, message) => {
    expect(problems(changes)).toContain(message);
  });

  it("with all that is wrong at once", () => {
    const text = problems({ ...victim("load 0x1000 3", "lod"), properties: ["nice"] });
    expect(text.split("\n")).toHaveLength(3);
  });

  it("when it is no JSON, or too much of it", () => {
    expect(() => parseScenarios("{", "test.json")).toThrow(/test.json:1:2: not JSON/);
    expect(() => parseScenarios(" ".repeat(300_000), "test.json")).toThrow(/more than the limit 262144/);
    expect(() => parseScenarios("[]", "test.json")).toThrow(ScenarioError);
    expect(() => parseScenarios("null", "test.json")).toThrow(ScenarioError);
  });
});
