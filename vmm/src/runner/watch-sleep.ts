/** Looks at the threads of vCPUs from outside: of our own VMM, and of any other whose thread ids are known. */
import { readThread, SleepWatch, waitChannel } from "../../../sys/src/index.ts";
import { monotonicMs, type VcpuMessage } from "./messages.ts";

const LOOK_MS = 100;

export type SleepingNews = Extract<VcpuMessage, { type: "waiting" | "unstuck" }>;

export type SleepingOptions = {
  readonly cpus: number;
  /** By vCPU; null: there is none, or not yet. */
  readonly threadOf: (cpu: number) => number | null;
  /** No page's I/O takes longer. */
  readonly patienceMs: number;
};

/** Reports each vCPU whose thread sleeps for ever in a page fault (SleepWatch), and that it does no more. Returns what ends that. */
export function watchSleep(
  { cpus, threadOf, patienceMs }: SleepingOptions,
  onNews: (news: SleepingNews) => void,
): () => void {
  const watches = Array.from({ length: cpus }, () => new SleepWatch(patienceMs));
  const reported = new Set<number>();
  const look = (): void => {
    for (const [cpu, watch] of watches.entries()) {
      const tid = threadOf(cpu);
      const overMs = watch.sample(tid === null ? null : readThread(tid, monotonicMs()));
      if (overMs === null || tid === null) {
        if (reported.delete(cpu)) onNews({ cpu, type: "unstuck" });
      } else if (!reported.has(cpu)) {
        reported.add(cpu);
        const detail = `state D in ${waitChannel(tid)}`;
        onNews({ cpu, type: "waiting", in: "page fault", overMs, place: null, detail });
      }
    }
  };
  const timer = setInterval(look, LOOK_MS);
  return () => clearInterval(timer);
}
