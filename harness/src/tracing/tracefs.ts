/**
 * KVM's own tracepoints while something runs, from an instance of tracefs of our own, so that other tracing is not
 * disturbed. Where there is no tracefs, or no right to it, the result is the reason.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { mount, unmountLazily } from "../../../sys/src/looking.ts";
import { errorText } from "../error-text.ts";

export type TraceText =
  | {
      readonly kind: "trace";
      readonly text: string;
      readonly events: readonly string[];
      /** Events that the buffer had no room for any more. */
      readonly lost: number;
    }
  | { readonly kind: "none"; readonly reason: string };

export interface TraceSession {
  /** What was traced since the last call, and goes on tracing. */
  drain(): TraceText;
  /** Ends tracing, gives what was traced, leaves nothing. Call once. */
  finish(): TraceText;
}

/** What is traced. */
export type TraceSelection = {
  /** Of the instance: a process may have several at a time. Letters. */
  readonly name: string;
  readonly events: readonly TracedEvent[];
  /** Those of them that are not wanted. */
  readonly except: readonly string[];
  /** Per CPU. A loop fills any buffer; its beginning is what matters, so nothing is overwritten. */
  readonly bufferKib: number;
  /**
   * This process and what it starts from here on, or all of them. On a machine that one shares, other VMs would fill the
   * buffer with their own story; but what a kworker tells (kvm_async_pf_completed) belongs to no process.
   * By TIDs of the outermost namespace: these threads alone.
   */
  readonly processes: "own" | "all" | readonly number[];
};

export type TracedEvent = {
  /** `kvm/kvm_page_fault`, or a whole system: `kvm`. Those that this kernel does not have are left out. */
  readonly event: string;
  /** In the kernel's language (Documentation/trace/events.rst); null: all of them. */
  readonly filter: string | null;
};

/** All of KVM's tracepoints, to be read by people. */
export const everything: TraceSelection = {
  name: "everything",
  events: ["kvm", "kvmmmu"].map((event) => ({ event, filter: null })),
  // KVM's instruction emulator, for each instruction and page-table entry: most lines, least information.
  except: ["kvm/kvm_emulate_insn", "kvmmmu/kvm_mmu_paging_element", "kvmmmu/kvm_mmu_pagetable_walk"],
  bufferKib: 4096,
  processes: "own",
};

/** Where tracefs is mounted on most systems; the second is the old place. */
const places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] as const;

/** tracefs as it is mounted, or mounted by us in the run's folder, from which every mount is swept; null: never by us. */
function findTracefs(
  runDirectory: string | null,
): { readonly path: string; readonly isOurs: boolean } | string {
  const mounted = places.find((path) => existsSync(join(path, "instances")));
  if (mounted !== undefined) return { path: mounted, isOurs: false };
  if (!existsSync(places[0])) return "this kernel has no tracefs";
  if (runDirectory === null) return "tracefs is not mounted, or needs root";
  try {
    // Of each session its own: several may be open at a time.
    const target = mkdtempSync(join(runDirectory, "tracefs-"));
    mount({ source: "tracefs", target, type: "tracefs", flags: 0, data: "" });
    return { path: target, isOurs: true };
  } catch (error) {
    return `tracefs is not mounted and cannot be: ${errorText(error)}`;
  }
}

const INSTANCE = /^daxfault-([0-9]+)-[a-z]+$/;

/** Instances of processes that were killed: the kernel keeps them. */
function removeStale(instances: string): void {
  for (const name of readdirSync(instances)) {
    const pid = INSTANCE.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    try {
      rmdirSync(join(instances, name));
    } catch {
      // In use after all.
    }
  }
}

const nothing = (reason: string): TraceText => ({ kind: "none", reason });
const failed = (reason: string): TraceSession => ({
  drain: () => nothing(reason),
  finish: () => nothing(reason),
});

/** `kvm/kvm_page_fault` and `kvm` as people write them. */
const spoken = (event: string): string => (event.includes("/") ? event.replace("/", ":") : `${event}:*`);

/** Switches on what this kernel has of the selection; returns it. */
function enable(instance: string, { events, except }: TraceSelection): string[] {
  const write = (file: string, text: string): void => writeFileSync(join(instance, file), text);
  const has = (event: string): boolean => existsSync(join(instance, "events", event));
  const enabled: string[] = [];
  for (const { event, filter } of events) {
    if (!has(event)) continue;
    if (filter !== null) write(`events/${event}/filter`, filter);
    write(`events/${event}/enable`, "1");
    enabled.push(spoken(event));
  }
  for (const event of except) if (has(event)) write(`events/${event}/enable`, "0");
  return enabled;
}

/** "dropped events: 12" of each CPU (Documentation/trace/ftrace.rst). */
function lostEvents(instance: string): number {
  const counts = readdirSync(join(instance, "per_cpu")).map((cpu) => {
    const stats = readFileSync(join(instance, "per_cpu", cpu, "stats"), "utf8");
    return Number(/^dropped events: ([0-9]+)$/m.exec(stats)?.[1] ?? 0);
  });
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Opening with O_TRUNC empties the buffer (Documentation/trace/ftrace.rst, trace). */
function drained(instance: string, events: readonly string[]): TraceText {
  const path = join(instance, "trace");
  const text = readFileSync(path, "utf8");
  const lost = lostEvents(instance);
  // An empty one costs a header's reading, no more.
  if (/^[^#\n]/m.test(text)) writeFileSync(path, "");
  return { kind: "trace", text, events, lost };
}

/**
 * Starts tracing. Never throws: `finish` returns what keeps it from tracing.
 * @param runDirectory where tracefs may be mounted, if it is not yet; null: nowhere
 */
export function openTrace(runDirectory: string | null, selection: TraceSelection): TraceSession {
  const found = findTracefs(runDirectory);
  if (typeof found === "string") return failed(found);
  const instance = join(found.path, "instances", `daxfault-${process.pid}-${selection.name}`);
  const leave = (): void => {
    try {
      if (existsSync(instance)) rmdirSync(instance);
      if (found.isOurs) {
        unmountLazily(found.path);
        rmdirSync(found.path);
      }
    } catch {
      // The kernel keeps an instance that is being read; it is empty and idle.
    }
  };
  let enabled: readonly string[] = [];
  try {
    removeStale(join(found.path, "instances"));
    mkdirSync(instance);
    const write = (file: string, text: string): void => writeFileSync(join(instance, file), text);
    write("buffer_size_kb", String(selection.bufferKib));
    write("options/overwrite", "0");
    // The order of events is the same on all CPUs (Documentation/trace/ftrace.rst, trace_clock).
    write("trace_clock", "global");
    if (selection.processes === "own") {
      write("options/event-fork", "1");
      write("set_event_pid", String(process.pid));
    } else if (selection.processes !== "all") {
      write("set_event_pid", selection.processes.join(" "));
    }
    enabled = enable(instance, selection);
    write("tracing_on", "1");
  } catch (error) {
    leave();
    return failed(`tracefs at ${found.path} cannot be used: ${errorText(error)}`);
  }
  if (enabled.length === 0) {
    leave();
    return failed("this kernel has no tracepoints kvm:* (no KVM module is loaded, or CONFIG_TRACING is off)");
  }
  return {
    drain() {
      try {
        return drained(instance, enabled);
      } catch (error) {
        return nothing(`the trace cannot be read: ${errorText(error)}`);
      }
    },
    finish() {
      try {
        writeFileSync(join(instance, "tracing_on"), "0");
        const lost = lostEvents(instance);
        const text = readFileSync(join(instance, "trace"), "utf8");
        // set_event_pid takes the PIDs of the outermost namespace, which a process inside another one cannot know.
        if (selection.processes === "own" && !/^[^#\n]/m.test(text))
          return nothing("tracefs recorded nothing: in a container, PIDs are others there");
        return { kind: "trace", text, events: enabled, lost };
      } catch (error) {
        return nothing(`the trace cannot be read: ${errorText(error)}`);
      } finally {
        leave();
      }
    },
  };
}
