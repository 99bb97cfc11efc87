/**
 * KVM's own tracepoints (kvm:*, kvmmmu:*) while a case runs, from an instance of tracefs of our own, so that nobody
 * else's tracing is disturbed. Where there is no tracefs, or no right to it, the reason is what there is.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mount, unmountLazily } from "../../../sys/src/index.ts";
import { errorText } from "../error-text.ts";

export type TraceText =
  | { readonly kind: "trace"; readonly text: string; readonly events: readonly string[] }
  | { readonly kind: "none"; readonly reason: string };

export interface TraceSession {
  /** Ends tracing, gives what was traced, leaves nothing. Call once. */
  finish(): TraceText;
}

/** Where tracefs is mounted on most systems; the second is the old place. */
const places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] as const;
const systems = ["kvm", "kvmmmu"] as const;
/** What KVM's instruction emulator says of each instruction and page-table entry: most lines, least news. */
const noisy: readonly string[] = [
  "kvm/kvm_emulate_insn",
  "kvmmmu/kvm_mmu_paging_element",
  "kvmmmu/kvm_mmu_pagetable_walk",
];
/** A loop fills any buffer; its beginning tells the story, so that the buffer does not overwrite. */
const BUFFER_KIB = 4096;

/** tracefs as it is mounted, or mounted by us in the run's folder, from which every mount is swept. */
function findTracefs(runDirectory: string): { readonly path: string; readonly isOurs: boolean } | string {
  const mounted = places.find((path) => existsSync(join(path, "instances")));
  if (mounted !== undefined) return { path: mounted, isOurs: false };
  if (!existsSync(places[0])) return "this kernel has no tracefs";
  const target = join(runDirectory, "tracefs");
  try {
    mkdirSync(target);
    mount({ source: "tracefs", target, type: "tracefs", flags: 0, data: "" });
    return { path: target, isOurs: true };
  } catch (error) {
    return `tracefs is not mounted and cannot be: ${errorText(error)}`;
  }
}

const INSTANCE = /^daxfault-([0-9]+)$/;

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
const failed = (reason: string): TraceSession => ({ finish: () => nothing(reason) });

/** Starts tracing. Never throws: what keeps it from tracing is told by `finish`. */
export function openTrace(runDirectory: string): TraceSession {
  const found = findTracefs(runDirectory);
  if (typeof found === "string") return failed(found);
  const instance = join(found.path, "instances", `daxfault-${process.pid}`);
  const leave = (): void => {
    try {
      if (existsSync(instance)) rmdirSync(instance);
      if (found.isOurs) unmountLazily(found.path);
    } catch {
      // The kernel keeps an instance that somebody reads; it is empty and idle.
    }
  };
  const enabled: string[] = [];
  try {
    removeStale(join(found.path, "instances"));
    mkdirSync(instance);
    const write = (file: string, text: string): void => writeFileSync(join(instance, file), text);
    write("buffer_size_kb", String(BUFFER_KIB));
    write("options/overwrite", "0");
    // This process and what it starts from here on: other VMs of the machine would fill the buffer with their own story.
    // The price is kvm_async_pf_completed, which a kworker of the kernel's tells.
    write("options/event-fork", "1");
    write("set_event_pid", String(process.pid));
    for (const system of systems) {
      if (!existsSync(join(instance, "events", system))) continue;
      write(`events/${system}/enable`, "1");
      enabled.push(`${system}:*`);
    }
    for (const event of noisy) {
      if (existsSync(join(instance, "events", event))) write(`events/${event}/enable`, "0");
    }
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
    finish() {
      try {
        writeFileSync(join(instance, "tracing_on"), "0");
        const text = readFileSync(join(instance, "trace"), "utf8");
        // set_event_pid takes the PIDs of the outermost namespace, which nobody inside another one can know.
        if (!/^[^#\n]/m.test(text))
          return nothing("tracefs recorded nothing: in a container, PIDs are others there");
        return { kind: "trace", text, events: enabled };
      } catch (error) {
        return nothing(`the trace cannot be read: ${errorText(error)}`);
      } finally {
        leave();
      }
    },
  };
}
