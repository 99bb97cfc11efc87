import { defineConfig, type ViteUserConfig } from "vitest/config";

const config: ViteUserConfig = defineConfig({
  test: {
    include: ["{language,harness,fs-server,kvm-model,vmm,sys,scripts}/test/**/*.test.ts"],
    globalSetup: ["scripts/test-setup.ts"],
    // Tests that drive /dev/kvm or mount file systems start child processes: give them room, but a bound.
    testTimeout: 30_000,
    hookTimeout: 30_000,
    allowOnly: false,
  },
});
export default config;
