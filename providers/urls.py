"""Addresses of providers. POST /v1/capacity is the exchange's: it publishes and offers in one transaction."""

from django.urls import path

from providers import catalogue_views, views
from providers.api import catalogue, certificates, deployments

api_urlpatterns = [
    path("accelerators", catalogue.Accelerators.as_view()),
    path("accelerators/<str:accelerator>", catalogue.AcceleratorDetail.as_view()),
    path("foreign-units", catalogue.ForeignUnits.as_view()),
    path("models", catalogue.Models.as_view()),
    path("grades", catalogue.Grades.as_view()),
    path("grades/<str:slug_or_id>", catalogue.GradeDetail.as_view()),
    path("certificates", certificates.Certificates.as_view()),
    path("deployments", deployments.Deployments.as_view()),
    path("deployments/<int:deployment_id>", deployments.DeploymentDetail.as_view()),
    path("deployments/<int:deployment_id>/list-prices", deployments.ListPrices.as_view()),
]

urlpatterns = [
    path("accelerators", catalogue_views.accelerators, name="accelerators"),
    path("accelerators/<str:accelerator>", catalogue_views.accelerator, name="accelerator"),
    path("deployments", views.deployments, name="deployments"),
    path("deployments/new", views.register, name="deployment-new"),
]
