/** The plugin's page in Airflow. The host renders this function, and gives ids where it stands on a DAG's tab. */

import { Box } from "@chakra-ui/react";
import { NavLink, Navigate, Route, Routes } from "react-router-dom";

import "@xyflow/react/dist/base.css";
import "./canvas.css";
import { useLanguage } from "./i18n/language";
import { t } from "./i18n/t";
import { BASE } from "./core/paths";
import { CanvasPage, NewPipelinePage } from "./pages/CanvasPage";
import { DecisionsPage } from "./pages/DecisionsPage";
import { HomePage } from "./pages/HomePage";
import { LabellingPage } from "./pages/LabellingPage";
import { ModelsPage } from "./pages/ModelsPage";
import { PipelinesPage } from "./pages/PipelinesPage";
import { RulesPage } from "./pages/RulesPage";
import { RunPage } from "./pages/RunPage";
import { Tour } from "./pages/Tour";
import { WizardPage } from "./pages/WizardPage";

interface HostProps {
  dagId?: string;
  runId?: string;
}

const PAGES = [
  { path: "home", name: "Overview" },
  { path: "pipelines", name: "Pipelines" },
  { path: "models", name: "Models" },
  { path: "rules", name: "Rule sets" },
  { path: "decisions", name: "Decisions" },
  { path: "labelling", name: "Labelling" },
] as const;

export default function Plugin(props: HostProps) {
  const language = useLanguage();
  // With another language everything is said again; what was typed is in the drafts.
  return language === null ? null : <Pages key={language} {...props} />;
}

function Pages({ dagId, runId }: HostProps) {
  if (dagId !== undefined) return <RunPage key={`${dagId} ${runId ?? ""}`} dagId={dagId} runId={runId} />;
  return (
    <Box className="mm-root">
      <nav className="mm-nav" aria-label="modelmill">
        {PAGES.map(({ path, name }) => (
          <NavLink key={path} to={`${BASE}/${path}`} className="mm-nav-link">
            {t(name)}
          </NavLink>
        ))}
      </nav>
      <Routes>
        <Route index element={<Navigate to={`${BASE}/home`} replace />} />
        <Route path="home" element={<HomePage />} />
        <Route path="pipelines" element={<PipelinesPage />} />
        <Route path="canvas/:dagId" element={<CanvasPage />} />
        <Route path="new/:draft?" element={<NewPipelinePage />} />
        <Route path="models/:name?" element={<ModelsPage />} />
        <Route path="decisions" element={<DecisionsPage />} />
        <Route path="labelling/:name?" element={<LabellingPage />} />
        <Route path="rules/:name?/:draft?" element={<RulesPage />} />
        <Route path="one-click" element={<WizardPage />} />
        <Route path="*" element={<Navigate to={`${BASE}/pipelines`} replace />} />
      </Routes>
      <Tour />
    </Box>
  );
}
