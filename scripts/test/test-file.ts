/**
 * Before and after each test file. Files share a worker's process: a file system that made something as its caller, in the
 * test's own process, has let the thread keep its capabilities across users (passthrough/identity.ts), and the thread's
 * children with it. A later test that acts as another user would then be that user with all of root's rights.
 */
import { afterAll, beforeAll } from "vitest";
import { dropCapabilitiesWithIdentities } from "../../sys/src/index.ts";
import { removeTemporaryDirectories } from "../../sys/test/support/directories.ts";

beforeAll(() => {
  if (!dropCapabilitiesWithIdentities()) throw new Error("PR_SET_SECUREBITS needs CAP_SETPCAP");
});

// Hooks of this kind are called in the opposite order: a file's own, which stop its servers, come first.
afterAll(removeTemporaryDirectories);
