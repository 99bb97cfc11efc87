import { describe, expect, it } from "vitest";
import type { AccessOp } from "../../../../language/src/index.ts";
import { guestModel, type ModelCase, modelCase } from "../../../src/index.ts";
import type { AccessStep } from "../../../src/model/case.ts";
import { type LinuxFault, linuxFault } from "../../../src/model/guest/linux-fault.ts";
import { Machine } from "../../../src/model/machine.ts";

function faultOf(access: AccessStep, pfErrorCode: ModelCase["pfErrorCode"]): LinuxFault {
  const tasks = [{ name: "victim", vcpu: 0, steps: [access] }];
  const { ctx } = guestModel(modelCase({ name: "fault", pages: ["resident"], tasks, pfErrorCode }));
  return linuxFault(new Machine(ctx), access);
}

describe("an injected #PF in a Linux guest", () => {
  // Operation, mode; then what becomes of it with bit P clear, and set.
  it.each<[AccessOp, AccessStep["mode"], LinuxFault, LinuxFault]>([
    ["load", "user", "retries", "bad area"],
    ["fetch", "user", "retries", "bad area"],
    ["store", "user", "retries", "retries"],
    ["atomic", "user", "retries", "retries"],
    ["copy-from-user", "user", "retries", "bad area"],
    ["copy-to-user", "user", "retries", "retries"],
    ["dax-read", "user", "bad area", "bad area"],
    ["dax-write", "user", "bad area", "retries"],
    ["load", "kernel", "bad area", "bad area"],
    ["store", "kernel", "bad area", "retries"],
  ])("%s in %s mode", (op, mode = "user", clear, set) => {
    const access = { op, mode, page: 0 };
    expect([faultOf(access, "not-present"), faultOf(access, "protection")]).toEqual([clear, set]);
  });
});
