import { describe, expect, it } from "vitest";
import { onAbort } from "../src/abort.ts";

describe("onAbort", () => {
  it("acts on an abort, before as well as after it began to listen, and once", () => {
    const calls: string[] = [];
    const early = new AbortController();
    early.abort();
    onAbort(early.signal, () => calls.push("early"));
    const late = new AbortController();
    onAbort(late.signal, () => calls.push("late"));
    late.abort();
    late.abort();
    expect(calls).toEqual(["early", "late"]);
  });

  it("stops listening", () => {
    const controller = new AbortController();
    const stop = onAbort(controller.signal, () => expect.unreachable());
    stop();
    controller.abort();
  });
});
