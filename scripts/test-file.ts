/**
 * Before each test file. Files share a worker's process: a file system that made something as its caller, in the test's own
 * process, has let the thread keep its capabilities across users (passthrough/identity.ts), and the thread's children with
 * it. A later test that acts as another user would then be that user with all of root's rights.
 */
import { beforeAll } from "vitest";
import { dropCapabilitiesWithIdentities } from "../sys/src/index.ts";

beforeAll(() => {
  if (!dropCapabilitiesWithIdentities()) throw new Error("PR_SET_SECUREBITS needs CAP_SETPCAP");
});
