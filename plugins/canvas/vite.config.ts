import react from "@vitejs/plugin-react";
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

export default defineConfig({
  plugins: [react(), injectCss()],
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
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
      external: Object.keys(HOST_GLOBALS),
      output: { globals: HOST_GLOBALS },
    },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node", testTimeout: 60_000 },
});
