package e2e

import (
	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
)

// system is a type of PBX as the suite uses it.
type system struct {
	// simulator is its name there.
	simulator  string
	pbx        func(url string) v1alpha1.PBX
	extensions []extension
	// byHand tells that the event URL is entered by an administrator.
	byHand bool
	// speed at which calls are played. VoipNow tells repetitions from second attempts by their
	// distance.
	speed float64
	// untimed tells that the PBX gives no times.
	untimed bool
}

type extension struct {
	name, number string
	kind         v1alpha1.ExtensionType
}

var credentials = v1alpha1.SecretReference{Name: "credentials"}

var (
	ringMe = system{
		simulator: "ringme", speed: 60,
		pbx: func(url string) v1alpha1.PBX {
			return v1alpha1.PBX{Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{
				URL: url, CredentialsSecretRef: credentials, RequestsPerMinute: 6000,
			}}
		},
		extensions: []extension{
			{"ann", "1234*101", v1alpha1.ExtensionPhone},
			{"ben", "1234*102", v1alpha1.ExtensionPhone},
			{"cleo", "1234*103", v1alpha1.ExtensionPhone},
			{"menu", "1234*099", v1alpha1.ExtensionIVR},
			{"support", "1234*900", v1alpha1.ExtensionQueue},
		},
	}
	voipNow = system{
		simulator: "voipnow", speed: 6, untimed: true,
		pbx: func(url string) v1alpha1.PBX {
			return v1alpha1.PBX{Type: v1alpha1.PBXTypeVoipNow, VoipNow: &v1alpha1.VoipNow{
				URL: url, CredentialsSecretRef: credentials, RequestsPerMinute: 6000,
			}}
		},
		extensions: []extension{
			{"ann", "0007*101", v1alpha1.ExtensionPhone},
			{"ben", "0007*102", v1alpha1.ExtensionPhone},
			{"cleo", "0007*103", v1alpha1.ExtensionPhone},
			{"menu", "0007*099", v1alpha1.ExtensionIVR},
			{"support", "0007*900", v1alpha1.ExtensionQueue},
		},
	}
	callable = system{
		simulator: "callable", speed: 60, byHand: true,
		pbx: func(string) v1alpha1.PBX {
			return v1alpha1.PBX{Type: v1alpha1.PBXTypeCallable, Callable: &v1alpha1.Callable{
				OwnNumbers: []string{"442079460900"}, OwnDomains: []string{"tenant.example.com"},
			}}
		},
		extensions: []extension{
			{"ann", "201", v1alpha1.ExtensionPhone},
			{"ben", "202", v1alpha1.ExtensionPhone},
			{"cleo", "203", v1alpha1.ExtensionPhone},
		},
	}
	linuxBox = system{
		simulator: "linuxbox", speed: 60, byHand: true,
		pbx: func(url string) v1alpha1.PBX {
			return v1alpha1.PBX{Type: v1alpha1.PBXTypeLinuxBox, LinuxBox: &v1alpha1.LinuxBox{URL: url, RequestsPerMinute: 6000}}
		},
		extensions: []extension{
			{"ann", "10", v1alpha1.ExtensionPhone},
			{"ben", "11", v1alpha1.ExtensionPhone},
			{"cleo", "12", v1alpha1.ExtensionPhone},
		},
	}
)
