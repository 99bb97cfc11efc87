/** What the package knows, from its fixtures: for the report of a run, and of recorded runs. */
import { recordedLinuxGuests } from "../compare/linux-guest.ts";
import { loadDocumented, loadScenarios } from "../fixtures.ts";
import type { Background } from "./report.ts";

export const loadBackground = (): Background => ({
  documented: loadDocumented(),
  linuxGuests: () => ({ recorded: recordedLinuxGuests(), scenarios: loadScenarios() }),
});
