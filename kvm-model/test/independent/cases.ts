/** The cases on which search and model must agree: programs, and the machines that each is run on. */
import type { GuestOp, HostOp, Machine, Program, Task } from "./machine.ts";

const looping: Machine = { lapic: "kernel", apf: "off", hltInGuest: false, timer: true, kvm: "today" };

const all = [
  "exits",
  "loops",
  "no timer",
  "apf",
  "send always",
  "HLT in guest",
  "HLT in guest, apf",
  "final -EFAULT",
] as const;
type MachineName = (typeof all)[number];

const machines: Readonly<Record<MachineName, Machine>> = {
  exits: { ...looping, lapic: "user" },
  loops: looping,
  "no timer": { ...looping, timer: false },
  apf: { ...looping, apf: "user-mode" },
  "send always": { ...looping, apf: "always" },
  "HLT in guest": { ...looping, hltInGuest: true },
  "HLT in guest, apf": { ...looping, hltInGuest: true, apf: "user-mode" },
  "final -EFAULT": { ...looping, apf: "user-mode", kvm: "final-efault" },
};

const load = (page: number): GuestOp => ({ do: "load", page });
const store = (page: number): GuestOp => ({ do: "store", page });
const copy = (page: number): GuestOp => ({ do: "load", page, by: "kernel" });
const signal = (name: string) => ({ do: "signal", name }) as const;
const awaits = (name: string) => ({ do: "await", name }) as const;
const truncate = (pages: number): HostOp => ({ do: "truncate", pages });
const punch = (page: number): HostOp => ({ do: "punch", page });

function task(name: string, ops: readonly GuestOp[], more: Partial<Task> = {}): Task {
  return { name, cpu: 0, cpl: 3, interrupts: true, ops, ...more };
}

/** Touches page 0, lets the host cut, touches it again. */
const victim = (again: GuestOp, more: Partial<Task> = {}): Task =>
  task("victim", [load(0), signal("touched"), awaits("cut"), again], more);
const counter = (cpu: number): Task => task("counter", [{ do: "count" }], { cpu });
const cut = [awaits("touched"), truncate(0), signal("cut")];

const programs: Readonly<Record<string, readonly [Program, readonly MachineName[]]>> = {
  "load after truncation": [{ pages: ["cached"], tasks: [victim(load(0))], host: cut }, all],
  "store after truncation": [{ pages: ["cached"], tasks: [victim(store(0))], host: cut }, all],
  "CPL 0": [{ pages: ["cached"], tasks: [victim(load(0), { cpl: 0 })], host: cut }, all],
  "interrupts off": [{ pages: ["cached"], tasks: [victim(load(0), { interrupts: false })], host: cut }, all],
  "copy by the guest kernel": [{ pages: ["cached"], tasks: [victim(copy(0))], host: cut }, all],
  "loads during truncation": [
    { pages: ["cached"], tasks: [task("victim", [load(0), load(0)])], host: [truncate(0)] },
    all,
  ],
  "load and store during truncation": [
    { pages: ["cached"], tasks: [task("victim", [load(0), store(0)])], host: [truncate(0)] },
    ["exits", "loops", "apf"],
  ],
  "truncation to the first of two pages": [
    { pages: ["cached", "cached"], tasks: [task("victim", [load(1), load(0)])], host: [truncate(1)] },
    all,
  ],
  "loads during truncation and growth": [
    { pages: ["cached"], tasks: [task("victim", [load(0), load(0)])], host: [truncate(0), truncate(1)] },
    all,
  ],
  "loads while a page is punched": [
    { pages: ["cached"], tasks: [task("victim", [load(0), load(0)])], host: [punch(0)] },
    all,
  ],
  "punched and then truncated": [
    { pages: ["cached"], tasks: [task("victim", [load(0), load(0)])], host: [punch(0), truncate(0)] },
    ["exits", "loops", "apf"],
  ],
  "full tmpfs": [{ pages: ["cached", "full"], tasks: [task("victim", [load(0), store(1)])], host: [] }, all],
  "slow page": [{ pages: ["disk"], tasks: [task("victim", [load(0)])], host: [] }, all],
  "slow page, copied by the guest kernel": [
    { pages: ["disk"], tasks: [task("victim", [copy(0)])], host: [] },
    all,
  ],
  "slow page during truncation": [
    { pages: ["disk"], tasks: [task("victim", [load(0)])], host: [truncate(0)] },
    all,
  ],
  "beside a counter": [{ pages: ["cached"], tasks: [victim(load(0)), counter(0)], host: cut }, all],
  "copy beside a counter": [{ pages: ["cached"], tasks: [victim(copy(0)), counter(0)], host: cut }, all],
  "beside a counter on another vCPU": [
    { pages: ["cached"], tasks: [victim(load(0)), counter(1)], host: cut },
    all,
  ],
  "two vCPUs": [
    {
      pages: ["cached"],
      tasks: [victim(load(0)), task("second", [awaits("cut"), store(0)], { cpu: 1 })],
      host: cut,
    },
    ["exits", "no timer", "HLT in guest", "final -EFAULT"],
  ],
  "two vCPUs during truncation": [
    {
      pages: ["cached"],
      tasks: [task("first", [load(0)]), task("second", [store(0)], { cpu: 1 })],
      host: [truncate(0)],
    },
    ["exits", "no timer"],
  ],
  "a vCPU with interrupts off, one with them": [
    {
      pages: ["full"],
      tasks: [task("first", [load(0)], { interrupts: false }), task("second", [load(0)], { cpu: 1 })],
      host: [],
    },
    all,
  ],
  "two victims and an innocent": [
    {
      pages: ["cached", "cached"],
      tasks: [
        victim(load(1)),
        task("second", [awaits("cut"), store(1)]),
        task("innocent", [awaits("cut"), load(0)]),
      ],
      host: [awaits("touched"), truncate(1), signal("cut")],
    },
    ["exits", "HLT in guest", "final -EFAULT"],
  ],
  "two tasks, one lost page": [
    { pages: ["full"], tasks: [task("first", [load(0)]), task("second", [load(0)])], host: [] },
    all,
  ],
  "two tasks, one slow page": [
    { pages: ["disk"], tasks: [task("first", [load(0)]), task("second", [load(0)])], host: [] },
    all,
  ],
  // An access that has faulted has begun, even if its task has lost the CPU.
  "two loads during truncation": [
    { pages: ["cached"], tasks: [task("a", [load(0)]), task("b", [load(0)])], host: [truncate(0)] },
    all,
  ],
  // The interrupt of b's page-ready comes before a's next instruction, not after a has halted the vCPU.
  "lost page, copied by the guest kernel, beside a load of it": [
    { pages: ["full"], tasks: [task("a", [copy(0)]), task("b", [load(0)])], host: [] },
    all,
  ],
  "killed at any time": [{ pages: ["cached"], tasks: [task("a", [load(0)])], host: [], mayKill: 0 }, all],
  "killed at any time, lost page": [
    { pages: ["full"], tasks: [task("a", [load(0)])], host: [], mayKill: 0 },
    all,
  ],
  "a slow page beside a lost one": [
    { pages: ["disk", "full"], tasks: [task("slow", [load(0)]), task("lost", [load(1)])], host: [] },
    ["exits", "apf"],
  ],
  "two slow pages": [
    { pages: ["disk", "disk"], tasks: [task("first", [load(0)]), task("second", [load(1)])], host: [] },
    ["exits", "apf", "HLT in guest, apf"],
  ],
};

export type Case = { readonly name: string; readonly program: Program; readonly machine: Machine };

export const cases: readonly Case[] = Object.entries(programs).flatMap(([name, [program, on]]) =>
  on.map((machine) => ({ name: `${name}: ${machine}`, program, machine: machines[machine] })),
);
