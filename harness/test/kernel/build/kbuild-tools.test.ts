/** What a kernel's Kconfig says of the compiler's options. */
import { describe, expect, it } from "vitest";
import { optionTests } from "../../../src/kernel/build/kbuild-tools.ts";

describe("optionTests", () => {
  it.each([
    [
      "config CC_HAS_SLS\n\tdef_bool $(cc-option,-mharden-sls=all)\n",
      [{ name: "CC_HAS_SLS", options: ["-mharden-sls=all"] }],
    ],
    [
      "config A\n\t# of gcc 14\n\tdef_bool $(cc-option, -fa=8 -fb)\n\tdepends on X\n\nconfig B\n\tdef_bool y\n",
      [{ name: "A", options: ["-fa=8", "-fb"] }],
    ],
    ["config A\n\tdef_bool $(cc-option,-Wa$(comma)-x)\n", [{ name: "A", options: ["-Wa,-x"] }]],
    ["config A\n\tbool\n\nconfig B\n\tdef_bool $(success,true)\n", []],
    ["config A\n\tdef_bool $(cc-option,-fa) || B\n", []],
    ["", []],
  ])("of %j", (text, tests) => {
    expect(optionTests(text)).toEqual(tests);
  });
});
