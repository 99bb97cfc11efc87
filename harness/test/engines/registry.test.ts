import { describe, expect, it } from "vitest";
import { engineNames, engineRow, engineRows, kernelEngines, loadEngine } from "../../src/engines/registry.ts";
import { featureNames } from "../../src/machine.ts";

describe("the registry", () => {
  it("has each engine once, and loads it under its name", async () => {
    expect(new Set(engineNames).size).toBe(engineRows.length);
    for (const name of engineNames) {
      const engine = await loadEngine(name);
      expect(engine.name).toBe(name);
      expect((await engine.attest().catch(() => null))?.engine ?? name).toBe(name);
      expect(engine.describe()).toMatch(/\w/);
    }
  });

  it("names a feature for everything that an engine needs", () => {
    for (const { needs, someNeed } of engineRows) {
      for (const name of [...needs, ...someNeed]) expect(featureNames).toContain(name);
    }
  });

  it("lets only what is real run inside kernels", () => {
    expect(kernelEngines.length).toBeGreaterThan(0);
    for (const { nature } of kernelEngines) expect(nature.isReal).toBe(true);
  });

  it("knows no other engine", async () => {
    expect(() => engineRow("abacus")).toThrow("there is no engine abacus");
    await expect(loadEngine("kernel:host")).rejects.toThrow("there is no engine kernel:host");
  });
});
