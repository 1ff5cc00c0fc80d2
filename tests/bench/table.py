"""The table a measuring program prints and writes as JSON: rows of {measure, value, unit, must, ok}."""
import json
import operator
import statistics

HOLDS = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


class Table:
    def __init__(self):
        self.rows = []

    def row(self, measure, value, unit="", must=None):
        """must: "<= 0.6", ">= 0.9", "= 0"; None = for information."""
        ok = True
        if must:
            sign, limit = must.split()
            ok = bool(HOLDS[sign](value, float(limit)))
        self.rows.append({"measure": measure, "value": round(float(value), 3), "unit": unit, "must": must, "ok": ok})
        print(f"  {measure:<100} {value:12.3f} {unit:<6} {must or '':<8} {'' if not must else 'ok' if ok else 'MISSED'}", flush=True)

    def series(self, measure, values, unit="s"):
        self.row(f"{measure}, p50 of {len(values)}", statistics.median(values), unit)
        if len(values) >= 4:
            low, _, high = statistics.quantiles(values, n=4)
            self.row(f"{measure}, p25", low, unit)
            self.row(f"{measure}, p75", high, unit)

    def end(self, path):
        """Prints what was missed, writes the file; how many rows are not ok."""
        missed = [r for r in self.rows if not r["ok"]]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.rows, indent=2) + "\n")
        print(f"\n{'measure':<100} {'value':>12} {'unit':<6} must be")
        for r in self.rows:
            word = "" if not r["must"] else "ok" if r["ok"] else "MISSED"
            print(f"{r['measure']:<100} {r['value']:12.3f} {r['unit']:<6} {r['must'] or '':<8} {word}")
        print(f"\n{path}: {len(self.rows)} rows, {len(missed)} missed")
        return len(missed)
