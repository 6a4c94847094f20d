/* Reports: one HTML page, self-contained, from the logs of training runs.
 *
 *     XFT_TRY(xft_report_write("out", NULL, "out/report.html"));
 *
 * What is read from a folder:
 *   log.jsonl    of the folder itself or of each folder right inside it, one stage each: losses, learning rate,
 * gradient norm, speed, memory, router load and entropy, mixing coefficients run.json     beside each log: settings,
 * device, driver, dates scores.json  scores of the models, for the table before and after:
 *                {"scores": [{"model": "base", "loss": 1.2, "perplexity": 3.3, "labels": 1000,
 *                             "pass@1": 0.25, "problems": 164, "samples": 164, …}, …]}
 *                each member but model may be missing or null; other "pass@k" are shown too; rows keep their order
 * Everything shown is also in the page as JSON, in the element with the id "xft-data":
 *   {"title", "made", "version", "scores": […],
 *    "stages": [{"name", "run": {…}, "start": {…}, "end": {…}, "step": {column: […]}, "eval": {column: […]},
 *                "router": {"step": […], "load": […], "entropy": […]}, "mixing": {"step": […], "alpha": […]},
 *                "events": […]}, …]}
 * Long logs are thinned out evenly for the curves: at most 2000 steps and 200 router and mixing records of a stage,
 * first and last kept.
 */
#ifndef XFT_REPORT_H
#define XFT_REPORT_H

#include "xft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads the folder and writes the page; `path` appears whole or not at all. title: NULL for the folder's name. Refuses
 * a folder with neither log nor scores, and, with file and line, log lines that are no JSON objects or lack what their
 * event must have; a last line cut short by a crash is left out. */
XFT_API xft_status xft_report_write(const char *folder, const char *title, const char *path);

#ifdef __cplusplus
}
#endif
#endif
