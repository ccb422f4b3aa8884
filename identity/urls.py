"""Addresses of identity."""

from django.urls import path

from identity.api import views
from identity.pages import switch_organization

api_urlpatterns = [
    path("whoami", views.WhoAmI.as_view()),
    path("organizations", views.Organizations.as_view()),
    path("organizations/<int:organization_id>", views.OrganizationDetail.as_view()),
    path("organizations/<int:organization_id>/members", views.Members.as_view()),
    path("keys", views.Keys.as_view()),
    path("keys/<int:key_id>", views.KeyDetail.as_view()),
    path("keys/<int:key_id>/rotate", views.KeyRotate.as_view()),
]
urlpatterns = [
    path("switch-organization", switch_organization, name="switch-organization"),
]
