package trafficshift

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// The chart's README: "An upgrade releases nothing". Records stand in users' clusters as earlier releases have written them: these bytes are
// never written anew, and whatever a library makes of its structs, they are still the template that the Deployment has.
func TestARecordOfAnEarlierReleaseIsStillTheTemplate(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "recorded", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d records, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c := newCluster(t)
			c.adopt()
			c.recordAs("micro-api-v1", raw)
			if !strings.HasPrefix(filepath.Base(file), "before-a-default") { // what only the version's own Deployment can tell: it has the default, too
				c.silence("micro-api-v1")
			}
			for range 5 {
				c.pass()
			}
			s := c.shift()
			if diff := cmp.Diff([]string{"v1", "", "Stable"}, []string{s.Status.Stable, s.Status.Candidate, string(s.Status.Phase)}); diff != "" || !resting(s) {
				t.Errorf("stable, candidate, phase (-want +got):\n%s%s", diff, s.Status.Message)
			}
			if c.get("micro-api-v2", &appsv1.Deployment{}) {
				t.Error("a version was started")
			}
		})
	}
}

// recordAs has a version's record say other bytes. No record is ever changed, so that it is made anew.
func (c *cluster) recordAs(name string, raw []byte) {
	c.Helper()
	record := &appsv1.ControllerRevision{}
	c.get(name, record)
	if err := c.Delete(c.Context(), record); err != nil {
		c.Fatal(err)
	}
	record.Data, record.ResourceVersion, record.UID = runtime.RawExtension{Raw: raw}, "", ""
	if err := c.Create(c.Context(), record); err != nil {
		c.Fatal(err)
	}
}

// silence has a version's Deployment not tell what the user wrote, so that the record alone must.
func (c *cluster) silence(name string) {
	c.Helper()
	c.patch(&appsv1.Deployment{}, name, `{"metadata": {"annotations": {"`+v1alpha1.AnnotationReplaced+`": "{\"silent\":\"yes\"}"}}}`)
}
