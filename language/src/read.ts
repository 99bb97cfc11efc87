/**
 * Readers of the language's files: scenarios, proposals, expectations. Apart from `index.ts` because it costs a program
 * the time to load zod, which a child process that only needs the words does not spend.
 */
export {
  FOLDER_FILES_MAX,
  InputError,
  jsonFilesOf,
  readInput,
  readLog,
  readStandardInput,
} from "./input-file.ts";
export { issueText } from "./issue-text.ts";
export { DEPTH_MAX, isTooDeep, jsonError, jsonErrorText, readJsonSource } from "./json-source.ts";
export { loadDocumented, loadErrata, loadExpectations } from "./judge/expectation-file.ts";
export { loadProposals } from "./proposal-file.ts";
export { PROPOSALS_MAX, SCENARIOS_MAX } from "./scenario/limits.ts";
export { loadScenarioFile, loadScenarioFolder } from "./scenario/load.ts";
export { parseScenarios } from "./scenario/parse.ts";
