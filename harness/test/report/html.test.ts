/** The HTML report: self-contained, safe whatever a recorded run contains, and whole in a real browser. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Page, chromium as playwright } from "playwright-core";
import { describe, expect, it } from "vitest";
import { evidenceWith, expectationWith, place } from "../../../language/test/support/evidence.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { raceRecord } from "../../src/guards/records.ts";
import { lanes } from "../../src/report/html/lanes.ts";
import { htmlPage } from "../../src/report/html/page.ts";
import { plotFigure } from "../../src/report/html/plots.ts";
import { markup } from "../../src/report/markup.ts";
import { makeReport } from "../../src/report/report.ts";
import type { CaseResult } from "../../src/run/result.ts";
import { executionOf, recordedWith, resultWith } from "../support/results.ts";

const attack = `</script></style><img src=x onerror="document.title='owned'"><script>document.title='owned'</script>'"&`;

/** Every text of a result that a recorded file can set. */
function hostile(): CaseResult {
  const result = resultWith({
    scenario: { purpose: attack, properties: ["terminates"] },
    verdict: { kind: "fail", reason: attack },
    expectation: expectationWith({ rule: attack, defect: { id: attack, text: attack, source: attack } }),
    evidence: evidenceWith({
      attestation: { kernel: attack, kvmBackend: attack },
      trace: [
        { kind: "truncate", actor: attack, atMs: 0, gpa: null, detail: attack },
        { kind: "exit", actor: "kvm", atMs: 1, gpa: 0x1000n, detail: attack },
      ],
      observations: { vmm: [{ kind: "looping", faultsPerSecond: 1000, at: place }] },
    }),
  });
  const { planned } = result;
  return {
    ...result,
    planned: { ...planned, argument: attack, proposal: { ...planned.proposal, id: attack, title: attack } },
    outcomes: [{ text: attack, verdict: "fail", count: 3 }],
  };
}

const defect = { id: "endless-loop", text: "It loops.", source: "virt/kvm/async_pf.c" };
const loop = resultWith({
  scenario: { id: "a-loop", properties: ["terminates"] },
  proposal: "apf-loop",
  expectation: expectationWith({ defect }),
  evidence: evidenceWith({
    observations: { vmm: [{ kind: "looping", faultsPerSecond: 25_005, at: place }] },
    trace: [
      { kind: "truncate", actor: "host", atMs: 3.5, gpa: null, detail: "to 0 bytes" },
      { kind: "signal", actor: "kvm", atMs: 104, gpa: null, detail: "stuck" },
    ],
  }),
});

describe("htmlPage", () => {
  it("lets no text out of its place", async () => {
    const page = await htmlPage(
      makeReport([recordedWith([hostile()], { defects: [attack] }, { kernel: attack, node: attack })], {
        documented: [],
      }),
    );
    expect(page).not.toContain("<img");
    expect(page.match(/<script/g)).toHaveLength(1);
    expect(page.match(/<\/script>/g)).toHaveLength(1);
    expect(page.match(/<\/style>/g)).toHaveLength(1);
    // The attack is there, as text.
    expect(page).toContain("&lt;img src=x onerror=&quot;");
  });

  it("takes nothing from the network", async () => {
    const page = await htmlPage(makeReport([recordedWith([loop])], { documented: [] }));
    const namespaces = page.replaceAll(/xmlns(:xlink)?="[^"]*"/g, "");
    expect(namespaces).not.toMatch(/(?:src|href|url|action)\s*[=(]\s*["']?\s*(?:https?:)?\/\//);
    expect(page).toMatch(/<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;;/);
  });

  it("has a lane for everybody, and opens every cell to its cases", async () => {
    const page = await htmlPage(makeReport([recordedWith([loop])], { documented: [] }));
    for (const lane of lanes) expect(page).toContain(`>${lane}</text>`);
    for (const [, id] of page.matchAll(/popovertarget="([^"]+)"/g))
      expect(page).toContain(`popover id="${id}"`);
    const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const [, target] of page.matchAll(/href="#([^"]+)"/g)) expect(ids).toContain(target);
    expect(page).toContain("25,005");
  });

  it("opens a case that is alone, and links to no section that is not there", async () => {
    const page = await htmlPage(makeReport([recordedWith([resultWith()])], { documented: [] }));
    expect(page).toMatch(/<details class="case" open /);
    expect(page).not.toContain('href="#plots"');
    expect(page).toContain('href="#cases"');
    const two = [resultWith(), resultWith({ scenario: { id: "b" } })];
    expect(await htmlPage(makeReport([recordedWith(two)], { documented: [] }))).not.toMatch(
      /<details class="case" open /,
    );
  });
});

describe("markup", () => {
  it("escapes what is put into it, and only that", () => {
    expect(
      markup`<b title="${'"'}">${"<i>"}${markup`<i>`}${null}${[markup`a`, markup`b`]}${5}</b>`.html,
    ).toBe('<b title="&quot;">&lt;i&gt;<i>ab5</b>');
  });
});

describe("plotFigure", () => {
  it("draws the figures and lists them, with every text escaped", async () => {
    const figures = [{ scenario: attack, proposal: attack, group: attack, value: 25_005 }];
    const plot = await plotFigure(figures, [attack], { title: attack, axis: "faults", group: "engine" });
    expect(plot?.html).toContain("25,005");
    expect(plot?.html).not.toMatch(/<img|<script/);
    expect(await plotFigure([], [], { title: "", axis: "", group: "" })).toBeNull();
  });
});

function findChromium(): string | null {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
    } catch {
      // The next one.
    }
  }
  return null;
}

const chromium = findChromium();
const reason = chromium === null ? " (skipped: there is no Chromium; apt-get install chromium)" : "";

/** Starting a browser takes a second; on a busy machine, a minute. */
const BROWSER_MS = 120_000;

/** The page in a window of that size, until `look` has ended. */
async function onPage(
  html: string,
  viewport: { readonly width: number; readonly height: number },
  look: (page: Page) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "daxfault-chromium-"));
  const file = join(folder, "report.html");
  writeFileSync(file, html);
  const browser = await playwright.launch({
    executablePath: chromium ?? "",
    args: ["--no-sandbox"],
    timeout: BROWSER_MS,
  });
  try {
    const page = await browser.newPage({ viewport });
    page.setDefaultTimeout(BROWSER_MS);
    await page.goto(`file://${file}`);
    await look(page);
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("the guards' section", () => {
  const figures = { rounds: 3, done: 3, denied: 0, stuck: false, loads: 9, stores: 0, staleLoads: 0 };
  const race = raceRecord({
    ...figures,
    guard: "notify",
    guest: "one-vcpu",
    refusal: null,
    late: 3,
    lost: 2,
    zeroLoads: 0,
    sigbus: 0,
    changedAfterAcknowledgement: 0,
    dirtyAfterRegrow: 0,
    windowUs: [60, 70, 3000],
    hostUs: [10, 20, 30],
    faults: [],
    seconds: 1,
    ways: [],
    linux: null,
  });

  it("has the window as a plot, with its counts, and is not there without measurements", async () => {
    const page = await htmlPage(makeReport([recordedWith([loop])], { documented: [] }, [race]));
    expect(page).toContain("The window of notify");
    expect(page).toMatch(/aria-label="The window of notify[^"]*"><svg/);
    // 60 and 70 us in the bin up to 100, 3 ms in the one up to 3,200; the empty ones between stand, those around do not.
    const counts = page.slice(page.indexOf("The window of notify")).match(/<tbody>.*?<\/tbody>/)?.[0];
    expect(counts?.match(/<tr>/g)?.length).toBe(6);
    expect(counts).toContain('<th scope="row">100</th><td>2</td>');
    expect(counts).toContain('<th scope="row">3,200</th><td>1</td>');
    expect(await htmlPage(makeReport([recordedWith([loop])], { documented: [] }))).not.toContain(
      'id="guards"',
    );
  });
});

describe.skipIf(chromium === null)(`in Chromium${reason}`, { timeout: BROWSER_MS }, () => {
  it.runIf(isLong)(
    "runs its own script and nothing else, and opens the case that a link leads to",
    async () => {
      const page = await htmlPage(makeReport([recordedWith([loop, hostile()])], { documented: [] }));
      await onPage(page, { width: 1440, height: 900 }, async (shown) => {
        await shown.goto(`${shown.url()}#case-1`);
        expect(await shown.title()).not.toContain("owned");
        expect(await shown.locator("details.case").first().getAttribute("open")).toBe("");
        // The script has shown its controls: the policy lets it run.
        expect(await shown.locator("#shown").textContent()).toBe("2 of 2 cases shown");
        expect(await shown.locator("button[data-copy]").first().getAttribute("hidden")).toBeNull();
      });
    },
  );

  it("filters the matrix and the cases by proposal, engine, ground and verdict, and gives all back", async () => {
    const modelled = resultWith({ scenario: { id: "modelled" }, proposal: "efault-exit" });
    const results = [
      loop,
      resultWith({ scenario: { id: "b" }, proposal: "efault-exit", verdict: { kind: "fail", reason: "no" } }),
      { ...modelled, planned: { ...modelled.planned, ...executionOf("model") } },
    ];
    const html = await htmlPage(makeReport([recordedWith(results)], { documented: [] }));
    await onPage(html, { width: 1440, height: 900 }, async (page) => {
      const seen = async (): Promise<readonly string[]> => [
        await page
          .locator("#matrix-table thead th:visible")
          .allInnerTexts()
          .then((all) => all.join(" ")),
        await page
          .locator("#matrix-table tbody th:visible")
          .allInnerTexts()
          .then((all) => all.join(" ")),
        String(await page.locator("details.case:visible").count()),
      ];
      // The page filters after the event of a reset (the form has its new values then): what it shows follows.
      const shows = (expected: readonly string[]) =>
        expect.poll(seen, { timeout: BROWSER_MS }).toEqual(expected);
      const all = ["scenario efault-exit apf-loop", "a-loop b modelled", "3"];
      await shows(all);
      await page.selectOption("select[name=proposal]", "apf-loop");
      await shows(["scenario apf-loop", "a-loop", "1"]);
      await page.click("button[type=reset]");
      await shows(all);
      await page.selectOption("select[name=ground]", "model");
      await shows(["scenario efault-exit", "modelled", "1"]);
      await page.selectOption("select[name=engine]", "kvm");
      await shows(["scenario", "", "0"]);
      expect(await page.locator("#shown").textContent()).toBe("0 of 3 cases shown");
      await page.click("button[type=reset]");
      await page.uncheck("input[value=pass]");
      await shows(["scenario efault-exit", "b", "1"]);
      await page.click("button[type=reset]");
      await page.fill("input[name=text]", "LOOPING");
      await shows(["scenario apf-loop", "a-loop", "1"]);
      // One machine: nothing to choose.
      expect(await page.locator("select[name=machine]").isVisible()).toBe(false);
    });
  });

  it.runIf(isLong)("keeps names in sight on a phone, and scrolls nothing but tables sideways", async () => {
    const proposals = ["native", "efault-exit", "apf-guest", "apf-loop", "pf-injection", "mce-injection"];
    const results = proposals.flatMap((proposal) =>
      Array.from({ length: 20 }, (_, index) =>
        resultWith({ proposal, scenario: { id: `scenario-${index}` } }),
      ),
    );
    const html = await htmlPage(makeReport([recordedWith(results)], { documented: [] }));
    await onPage(html, { width: 390, height: 844 }, async (page) => {
      const widths = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]");
      expect(widths).toEqual([390, 390]);
      const table = page.locator("#matrix-table");
      const corner = table.locator("thead th").first();
      const name = table.locator("tbody th").last();
      await table.scrollIntoViewIfNeeded();
      const before = await name.boundingBox();
      await table.evaluate((element) => element.parentElement?.scrollTo(400, 300));
      const after = await name.boundingBox();
      expect(after?.x).toBe(before?.x);
      expect(after?.y).toBe((before?.y ?? 0) - 300);
      const [scroll, head] = [await table.locator("xpath=..").boundingBox(), await corner.boundingBox()];
      expect(Math.abs((head?.y ?? 0) - (scroll?.y ?? 0))).toBeLessThanOrEqual(1);
    });
  });
});
