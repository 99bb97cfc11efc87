/**
 * The situations that claims and properties are decided in: who touches what while the host truncates. Small on purpose,
 * and unsynchronised where they can be, so that the explorer has every order of events to choose from.
 */

import type { AccessOp, Parts } from "../../../language/src/index.ts";
import { type AccessStep, type ModelCase, modelCase, type Task } from "../model/case.ts";

export const situations = [
  "load",
  "store",
  "two-victims",
  "two-vcpus",
  "large-page",
  "copy-from-user",
  "copy-to-user",
  "dax-read",
  "dax-write",
  "interrupts-off",
  "killed",
  "regrown",
  "nmi-cr2",
  "nmi-flags",
  "nested",
  "nested-io",
  "memory-error-load",
  "memory-error-store",
  "tmpfs-full",
  "io-error",
  "only-io",
  "limit-io",
  "io-after-kill",
  "through-server",
  "through-open-fd",
  "through-open-trunc",
  "unresponsive",
] as const;
export type Situation = (typeof situations)[number];

type Given = Omit<Partial<ModelCase>, "name"> & Pick<ModelCase, "tasks" | "pages">;

const twice = (step: AccessStep): AccessStep[] => [step, step];
const task = (name: string, steps: Task["steps"], vcpu = 0): Task => ({ name, vcpu, steps });
const bystander: Task = task("bystander", [{ op: "count" }]);
const cut = [{ op: "truncate", pages: 0 }] as const;

/** A victim that touches the page twice, a bystander, a host that truncates whenever it likes. */
function touched(op: AccessOp, more: Partial<AccessStep> = {}): Given {
  return {
    pages: ["resident"],
    tasks: [task("victim", twice({ ...more, op, page: 0 })), bystander],
    host: cut,
    preempt: true,
  };
}

function given(situation: Situation): Given {
  switch (situation) {
    case "load":
    case "store":
    case "copy-from-user":
    case "copy-to-user":
    case "dax-read":
    case "dax-write":
      return touched(situation);
    case "two-victims":
      return {
        pages: ["resident", "resident"],
        tasks: [
          task("first", [{ op: "load", page: 0 }]),
          task("second", [{ op: "load", page: 1 }]),
          bystander,
        ],
        host: cut,
        preempt: true,
      };
    case "two-vcpus":
      return {
        pages: ["resident"],
        vcpus: 2,
        tasks: [task("first", [{ op: "load", page: 0 }]), task("second", [{ op: "store", page: 0 }], 1)],
        host: cut,
      };
    case "large-page":
      // The second page is cut off the range, the first stays in the file.
      return {
        pages: ["resident", "resident"],
        largePage: true,
        tasks: [task("lost", twice({ op: "load", page: 1 })), task("kept", twice({ op: "load", page: 0 }))],
        host: [{ op: "truncate", pages: 1 }],
      };
    case "interrupts-off":
      return touched("load", { mode: "kernel", interrupts: "off" });
    case "killed":
      return { ...touched("load"), kill: "victim" };
    case "regrown":
      return {
        ...touched("load"),
        tasks: [
          task("victim", twice({ op: "load", page: 0 })),
          task("late", [
            { op: "await", name: "regrown" },
            { op: "load", page: 0 },
          ]),
        ],
        host: [...cut, { op: "extend", pages: 1 }, { op: "signal", name: "regrown" }],
      };
    case "nmi-cr2":
    case "nmi-flags":
      return {
        pages: ["on-disk"],
        tasks: [task("victim", [{ op: "load", page: 0 }]), bystander],
        preempt: true,
        nmi: situation === "nmi-cr2" ? "cr2-lost" : "flags-lost",
      };
    case "nested":
      return touched("load", { mode: "nested" });
    case "nested-io":
      return {
        pages: ["on-disk"],
        tasks: [task("victim", [{ op: "load", page: 0, mode: "nested" }]), bystander],
      };
    case "memory-error-load":
      return { ...touched("load"), host: [{ op: "memory-error", page: 0 }] };
    case "memory-error-store":
      return { ...touched("store"), host: [{ op: "memory-error", page: 0 }] };
    case "tmpfs-full":
    case "io-error":
      return { ...touched("load"), pages: [situation === "io-error" ? "io-error" : "no-space"], host: [] };
    default:
      return moreGiven(situation);
  }
}

function moreGiven(
  situation:
    | "only-io"
    | "limit-io"
    | "io-after-kill"
    | "through-server"
    | "through-open-fd"
    | "through-open-trunc"
    | "unresponsive",
): Given {
  switch (situation) {
    case "only-io":
      return {
        pages: ["on-disk"],
        tasks: [task("victim", [{ op: "load", page: 0 }]), bystander],
      };
    case "limit-io":
      // The second page is cut off while the first needs I/O.
      return {
        pages: ["on-disk", "resident"],
        tasks: [task("slow", [{ op: "load", page: 0 }]), task("victim", [{ op: "load", page: 1 }])],
        host: [{ op: "truncate", pages: 1 }],
      };
    case "io-after-kill":
      return {
        pages: ["no-space", "on-disk"],
        tasks: [task("victim", [{ op: "load", page: 0 }]), task("other", [{ op: "load", page: 1 }])],
        kill: "victim",
      };
    case "through-server":
      return { ...touched("load"), host: [{ op: "truncate", pages: 0, through: "server" }] };
    case "through-open-fd":
      return { ...touched("load"), host: [{ op: "truncate", pages: 0, via: "open-fd" }] };
    case "through-open-trunc":
      return { ...touched("load"), host: [{ op: "truncate", pages: 0, via: "open-trunc" }] };
    case "unresponsive":
      return { ...touched("load"), leaseClient: "unresponsive" };
  }
}

export function caseOf(situation: Situation, parts: Parts, more: Partial<ModelCase> = {}): ModelCase {
  return modelCase({ ...given(situation), ...parts, name: situation, ...more });
}
