/** The VM process's side of `run-case.ts`: its messages, for whatever guest it runs. */
import { disableCoreDumps, LostChildError } from "../../../../sys/src/index.ts";
import { errorStack } from "../../error-text.ts";
import { send as sendToParent, tieToParent } from "../child-side.ts";
import type { CaseRunner } from "./case-runner.ts";
import type { FromVm, ToVm } from "./messages.ts";
import type { CasePlan } from "./plan.ts";

/** Typed: only what the engine understands. */
export const send = (message: FromVm): Promise<void> => sendToParent(message);

export type VmSide<Plan extends CasePlan> = {
  runCase(plan: Plan): Promise<void>;
  /** Of the case under way. */
  runner(): CaseRunner | null;
  /** Says something of the guest or of the machine, not of this program: its message is for the user. */
  isKnown(error: unknown): boolean;
  /** May the process have another case? */
  isClean(plan: Plan): boolean;
};

/** Serves cases for as long as the parent lives. */
export function serveCases<Plan extends CasePlan>({ runCase, runner, isKnown, isClean }: VmSide<Plan>): void {
  async function serveCase(plan: Plan): Promise<void> {
    try {
      await runCase(plan);
    } catch (error) {
      // The user sees the last line.
      const isOurs = !(error instanceof LostChildError) && !isKnown(error);
      console.error(error instanceof Error && !isOurs ? error.message : errorStack(error));
      process.exit(1);
    }
    if (!isClean(plan)) process.exit(0);
    await send({ type: "idle" });
  }
  tieToParent();
  disableCoreDumps();
  process.on("message", (message: ToVm<Plan>) => {
    switch (message.type) {
      case "start":
        void serveCase(message.plan);
        return;
      case "signal":
        runner()?.raise(message.name);
        return;
      case "host-settled":
        runner()?.hostSettled();
        return;
      case "taken":
        runner()?.taken();
    }
  });
}
