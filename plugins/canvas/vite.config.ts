import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import react from "@vitejs/plugin-react";
import { type Plugin, esmExternalRequirePlugin } from "vite";
import { defineConfig } from "vitest/config";
import injectCss from "vite-plugin-css-injected-by-js";

// What Airflow's pages hold already: its own copies are used, so that contexts (theme, routes) are shared.
const HOST_GLOBALS = {
  react: "React",
  "react-dom": "ReactDOM",
  "react/jsx-runtime": "ReactJSXRuntime",
  "react-router-dom": "ReactRouterDOM",
  "@chakra-ui/react": "ChakraUI",
  "@emotion/react": "EmotionReact",
};

/** Languages beside English stand beside the bundle: a page loads the one that it speaks. */
const LANGUAGES = ["zh-CN"];

function languages(): Plugin {
  const read = (file: string): object => JSON.parse(readFileSync(new URL(`src/i18n/${file}.json`, import.meta.url), "utf8")) as object;
  const marked = (said: object): object => Object.fromEntries(Object.entries(said).map(([key, text]) => [`server: ${key}`, text as string]));
  return {
    name: "languages",
    generateBundle() {
      for (const name of LANGUAGES) {
        const catalogue = { ...marked(read(`${name}.server`)), ...read(`${name}.components`), ...read(`${name}.words`), ...read(name) };
        this.emitFile({ type: "asset", fileName: `${name}.json`, source: JSON.stringify(catalogue) });
      }
    },
  };
}

export default defineConfig({
  // CommonJS packages ask for the host's React with require(), which a browser does not have.
  plugins: [react(), injectCss(), languages(), esmExternalRequirePlugin({ external: Object.keys(HOST_GLOBALS) })],
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
  resolve: {
    // rjsf's own test helper asks for the validator that compiles schemas; nothing here may.
    alias: { "@rjsf/validator-ajv8": fileURLToPath(new URL("src/form/validator.ts", import.meta.url)) },
  },
  build: {
    outDir: "../modelmill_plugin/static",
    emptyOutDir: true,
    target: "es2022",
    lib: {
      entry: "src/main.tsx",
      formats: ["umd"],
      name: "AirflowPlugin",
      fileName: () => "canvas.js",
    },
    rolldownOptions: {
      output: { globals: HOST_GLOBALS },
    },
  },
  test: { include: ["tests/**/*.test.ts"], setupFiles: ["tests/setup.ts"], environment: "node", testTimeout: 300_000 },
});
