import { availableParallelism } from "node:os";
import { defineConfig, type ViteUserConfig } from "vitest/config";

const config: ViteUserConfig = defineConfig({
  test: {
    include: ["{language,harness,fs-server,kvm-model,vmm,sys,scripts}/test/**/*.test.ts"],
    globalSetup: ["scripts/test-setup.ts"],
    setupFiles: ["scripts/test/test-file.ts"],
    // Tests that drive /dev/kvm or mount file systems start child processes: give them room, but a bound.
    testTimeout: 30_000,
    hookTimeout: 30_000,
    allowOnly: false,
    // A file waits for its child processes half of the time: vitest's one worker of two CPUs leaves one idle.
    maxWorkers: availableParallelism(),
    // Loading the modules again for each of the files takes as long as a third of the tests. No module keeps what a test may
    // change but for what is probed once of the machine; a test that changes its own process puts it back.
    isolate: false,
  },
});
export default config;
